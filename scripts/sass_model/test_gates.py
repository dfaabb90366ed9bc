"""Tests of the gates on machine code: python3 -m unittest discover -s scripts/sass_model"""

import unittest

import bounds
import gate
from device import H100
from loop import main_loop
from sass import Kernel, add_usage, read_code
from sources import launches

NONE = 7
# Lines that cuobjdump printed of conv_128x128.
PRINTED = """
\tcode for sm_90a
\t\tFunction : conv_128x128
        /*3030*/                   LDSM.16.M88.4 R72, [R48] ;            /* 0x000000003048783b */
                                                                         /* 0x0002a20000000200 */
        /*3040*/                   HMMA.16816.F32 R4, R132.reuse, R136, R4 ; /* 0x000000888404723c */
                                                                         /* 0x048fe20000001804 */
"""


def line(offset, text, stall=1, write=NONE, read=NONE, wait=0):
    """An instruction as cuobjdump prints it."""
    control = stall | write << 5 | read << 8 | wait << 11
    return (
        f"        /*{offset:04x}*/    {text} ;   /* 0x{0:016x} */\n"
        f"                /* 0x{control << 41:016x} */\n"
    )


def kernel(*instructions, name="conv_64x64"):
    """Of texts, or of texts with their control words; 16 bytes apart."""
    rows = [row if isinstance(row, tuple) else (row, {}) for row in instructions]
    text = "code for sm_90a\nFunction : " + name + "\n"
    text += "".join(line(16 * n, row, **control) for n, (row, control) in enumerate(rows))
    return read_code(text)["sm_90a", name]


def texts(path):
    return [ins.text for ins in path]


HMMA = "HMMA.16816.F32 R4, R20, R24, R4"
LDGSTS = "LDGSTS.E.BYPASS.128 [R2+0x800], desc[UR4][R6.64]"


class Parser(unittest.TestCase):
    def test_an_instruction_and_its_control_word_are_read(self):
        load, multiply = read_code(PRINTED)["sm_90a", "conv_128x128"].code
        self.assertEqual((load.offset, load.base, load.registers), (0x3030, "LDSM", [72, 48]))
        self.assertEqual((load.stall, load.wait), (1, 0))
        self.assertEqual((load.write_barrier, load.read_barrier), (2, 1))
        self.assertEqual(multiply.registers, [4, 132, 136, 4])
        self.assertEqual((multiply.stall, multiply.wait), (1, 1 << 3))
        self.assertEqual((multiply.write_barrier, multiply.read_barrier), (NONE, NONE))

    def test_predicates_and_jumps_are_read(self):
        code = kernel("@P0 BRA 0x20", "BRA UP0, 0x0", "BRA 0x0", "@!PT LDS RZ, [RZ]", "EXIT").code
        self.assertEqual([ins.jump for ins in code], [0x20, 0, 0, None, None])
        self.assertEqual([ins.always_leaves for ins in code], [False, False, True, False, True])
        self.assertEqual([ins.is_executed for ins in code], [True, True, True, False, True])

    def test_registers_and_stack_are_those_of_the_named_kernel(self):
        first, second = Kernel("a", "sm_80"), Kernel("b", "sm_80")
        usage = " Function b:\n  REG:57 STACK:16 SHARED:0\n Function a:\n  REG:24 STACK:0 SHARED:0"
        add_usage({0: first, 1: second}, usage)
        self.assertEqual((first.registers, first.stack_bytes), (24, 0))
        self.assertEqual((second.registers, second.stack_bytes), (57, 16))


class Loop(unittest.TestCase):
    def test_a_step_in_the_middle_copies_and_takes_no_detour(self):
        path = main_loop(
            kernel(
                "MOV R1, R2",
                HMMA,  # the loop's head, at 0x10
                "@P0 BRA 0x40",
                LDGSTS,
                "@P1 BRA 0x80",  # out of line, and back into the loop
                "IADD3 R8, R8, 0x1, RZ",
                "@P2 BRA 0x10",
                "EXIT",
                "IMAD R9, R9, R9, R9",
                "BRA 0x50",
            ).code
        )
        expected = [HMMA, "@P0 BRA 0x40", LDGSTS, "@P1 BRA 0x80"]
        self.assertEqual(texts(path), [*expected, "IADD3 R8, R8, 0x1, RZ", "@P2 BRA 0x10"])

    def test_copies_of_a_residual_are_no_step_in_the_middle(self):
        add = "IADD3 R8, R8, 0x1, RZ"
        path = main_loop(
            kernel(
                HMMA,
                "@P0 BRA 0x50",
                "@P1 BRA 0x90",
                LDGSTS,  # of the residual: as many, in fewer instructions, behind another question
                "BRA 0x90",
                LDGSTS,
                add,
                add,
                add,
                "@P2 BRA 0x0",
                "EXIT",
            ).code
        )
        expected = [HMMA, "@P0 BRA 0x50", LDGSTS, add, add, add, "@P2 BRA 0x0"]
        self.assertEqual(texts(path), expected)

    def test_of_two_ways_alike_a_step_takes_the_shorter(self):
        add = "IADD3 R8, R8, 0x1, RZ"
        shorter, longer = (add, "BRA 0x70"), (add, add, "BRA 0x70")
        code = kernel(HMMA, "@P0 BRA 0x40", *shorter, *longer, "@P2 BRA 0x0", "EXIT").code
        expected = [HMMA, "@P0 BRA 0x40", *shorter, "@P2 BRA 0x0"]
        self.assertEqual(texts(main_loop(code)), expected)

    def test_a_step_is_of_the_inner_loop(self):
        code = kernel("MOV R1, R2", "MOV R3, R2", HMMA, "@P0 BRA 0x20", "@P1 BRA 0x0", "EXIT").code
        self.assertEqual(texts(main_loop(code)), [HMMA, "@P0 BRA 0x20"])

    def test_a_loop_without_products_is_none(self):
        self.assertIsNone(main_loop(kernel("MOV R1, R2", "@P0 BRA 0x0", "EXIT").code))


class Bounds(unittest.TestCase):
    def test_each_resource_is_summed_by_itself(self):
        path = kernel(
            HMMA,
            HMMA,
            "LDSM.16.M88.4 R20, [R30]",
            "LDS.64 R8, [R9]",
            LDGSTS,
            "@!PT LDS RZ, [RZ]",
            "IMAD R1, R2, R3, R4",
            "IADD3 R1, R2, R3, R4",
            "UIADD3 UR4, UR4, 0x1, URZ",
        ).code
        expected = {
            **{"issue": 18, "tensor": 24, "fma": 4, "alu": 4, "uniform": 4},
            # 4 of a load of operands, 1 of the table's row, 4 of a copy; eight warps.
            **{"shared": 72, "l2_bytes": 4096},
        }
        self.assertEqual(bounds.step_bounds(path, H100, 8), expected)

    def test_wgmma_reads_its_operands_from_shared_memory(self):
        both, one = kernel(
            "HGMMA.64x128x16.F32 R24, gdesc[UR4], R24",
            "HGMMA.64x128x16.F32 R24, R20, gdesc[UR4], R24",
        ).code
        self.assertEqual(bounds.step_bounds([both], H100, 4)["shared"], 48)
        self.assertEqual(bounds.step_bounds([one], H100, 4)["shared"], 32)
        self.assertEqual(bounds.step_bounds([one], H100, 4)["tensor"], 64)

    def test_a_load_right_before_its_use_delays_a_lone_warp(self):
        load = ("LDSM.16.M88.4 R20, [R30]", {"write": 0})
        use = (HMMA, {"wait": 1})
        others = [f"HMMA.16816.F32 R{n}, R40, R44, R{n}" for n in range(48, 80, 4)]
        early = bounds.lone_warp_cycles(kernel(load, *others, use).code, H100)
        late = bounds.lone_warp_cycles(kernel(*others, load, use).code, H100)
        self.assertGreater(late, early + H100.shared_latency - 10)


class Gate(unittest.TestCase):
    LDSM = "LDSM.16.M88.4 R20, [R30]"

    def problems(self, *instructions, name="conv_64x64", path=()):
        return gate.family_problems(kernel(*instructions, name=name), path)

    def test_a_kernel_has_its_familys_instructions(self):
        self.assertEqual(self.problems(HMMA, self.LDSM, LDGSTS), [])
        self.assertEqual(self.problems(HMMA, LDGSTS), ["has no LDSM"])
        self.assertEqual(self.problems(HMMA, self.LDSM, "@!PT " + LDGSTS), ["has no LDGSTS"])
        integers = self.problems(HMMA, self.LDSM, LDGSTS, name="conv_i8_64x64")
        self.assertEqual(integers, ["has no IMMA", "has HMMA"])
        self.assertEqual(self.problems("EXIT", name="top_k"), [])

    def test_wgmma_kernels_copy_by_the_copy_engine(self):
        copies = (
            *("UTMALDG.4D.IM2COL", "UBLKCP.S.G", "STSM.16.MT88.4", "LDSM.16.MT88.4", "UTMASTG.2D"),
            "USETMAXREG.DEALLOC.CTAPOOL 0x28",
        )
        multiply = "HGMMA.64x128x16.F32 R24, gdesc[UR4], R24"
        name = "conv_wgmma_128x256"
        self.assertEqual(self.problems(multiply, *copies, name=name), [])
        self.assertEqual(self.problems(multiply, *copies, LDGSTS, name=name), ["has LDGSTS"])
        self.assertEqual(self.problems(multiply, *copies[1:], name=name), ["has no UTMALDG"])
        alone = self.problems(multiply, *copies, name=f"{name}_pair")
        self.assertEqual(alone, ["has no UTMALDG.4D.IM2COL.MULTICAST"])

    def test_no_kernel_has_what_costs_much(self):
        for bad in ("LDL R1, [R2]", "STL.64 [R2], R1", "BRA.U.ANY 0x0"):
            found = self.problems(bad, name="top_k")
            self.assertEqual(found, [f"has {bad.split()[0].replace('.64', '')}"])
        convert = kernel("I2F.U32 R1, R2", "I2FP.F32.S32 R1, R2", name="top_k")
        self.assertEqual(gate.family_problems(convert, None), [])
        found = gate.family_problems(convert, convert.code)
        self.assertEqual(found, ["has I2F in its main loop"])

    def test_a_stack_and_ptxas_messages_are_problems(self):
        with_stack = kernel("EXIT", name="top_k")
        with_stack.stack_bytes = 8
        self.assertEqual(gate.family_problems(with_stack, None), ["has a stack of 8 bytes"])
        log = (
            "ptxas info : Used 9 registers\nptxas info    : (C7510) Potential Performance Loss: x\n"
        )
        found = gate.message_problems(log)
        self.assertEqual(found, ["ptxas info    : (C7510) Potential Performance Loss: x"])

    def test_limits_hold_in_both_directions(self):
        key, other = ("sm_80", "stem"), ("sm_80", "top_k")
        limits = {key: {"registers": 9, "LDSM": 4}, ("sm_90a", "stem"): {"registers": 9}}
        self.assertEqual(gate.limits_problems(limits, {key: limits[key]}), [])
        worse = gate.limits_problems(limits, {key: {"registers": 10, "LDSM": 4}})
        self.assertEqual(worse, ["stem for sm_80: registers 10, limit 9: worse"])
        better = gate.limits_problems(limits, {key: {"registers": 9}})
        self.assertEqual(better, ["stem for sm_80: LDSM 0, limit 4: better or gone"])
        self.assertEqual(len(gate.limits_problems(limits, {other: {"registers": 1}})), 3)

    def test_limits_are_read_as_they_were_written(self):
        limits = {("sm_80", "stem"): {"registers": 9, "LDSM": 4}, ("sm_80", "a"): {"registers": 1}}
        self.assertEqual(
            gate.read_limits(gate.write_limits("13.0.88", limits)), ("13.0.88", limits)
        )

    def test_measures_are_of_the_main_loop(self):
        of_loop = kernel("LDS R1, [R2]", HMMA, LDGSTS, "@P0 BRA 0x10", "EXIT")
        found = gate.measures(of_loop, main_loop(of_loop.code), 4)
        self.assertEqual((found["instructions"], found["HMMA"], found["LDGSTS"]), (3, 1, 1))
        self.assertNotIn("LDS", found)

    def test_groups_of_wgmma_are_measured(self):
        product = "HGMMA.64x256x16.F32 R24, gdesc[UR8], R24"
        wait = "WARPGROUP.DEPBAR.LE gsb0, 0x1"
        of_loop = kernel(product, f"{product}, gsb0", wait, "@P0 BRA 0x0", "EXIT")
        self.assertEqual(gate.measures(of_loop, main_loop(of_loop.code), 8)["groups"], 1)

    def test_launches_are_those_of_the_sources(self):
        found = launches()
        wgmma = found["conv_wgmma_64x256"]
        self.assertEqual((wgmma.threads, wgmma.warps, wgmma.tile), (384, 8, (256, 64)))
        self.assertEqual((found["stem"].threads, found["stem"].tile), (256, ()))
        self.assertEqual((found["stem_wgmma"].threads, found["stem_wgmma"].warps), (384, 8))
        self.assertEqual((found["conv_128x64"].warps, found["conv_128x64"].tile), (4, (128, 64)))
        problems = gate.check({("sm_90a", "new"): kernel("EXIT", name="new")}, found)[2]
        self.assertEqual(problems, ["new: in neither launch.h nor tiles.inc"])


if __name__ == "__main__":
    unittest.main()
