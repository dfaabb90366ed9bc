"""Tests of the predictions: python3 -m unittest discover -s scripts/sass_model"""

import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import predict
import today
from device import Rates, read_rates
from gate import read_limits
from network import Conv, batch_us, convs_of
from sass import Kernel
from sources import Launch
from test_gates import HMMA, LDGSTS, kernel
from wgmma import Tile, Wgmma

RATES = Rates(
    clock_ghz=1.0,
    l2_bytes_clk=32,
    l2_held_mib=34,
    hbm_tb_s=1.0,
    gap_us=0.7,
    gap_full_us=1.0,
    write_share=0.5,
)
SIDES = (
    ("layer1.0.conv1", "conv 1x1 relu", (56, 56, 64), (56, 56, 64)),
    ("layer1.0.conv2", "conv 3x3 relu", (56, 56, 64), (56, 56, 64)),
    ("layer1.0.downsample.0", "conv 1x1", (56, 56, 64), (56, 56, 256)),
    ("layer1.0.conv3", "conv 1x1 add relu", (56, 56, 64), (56, 56, 256)),
    ("layer1.1.conv1", "conv 1x1 relu", (56, 56, 256), (56, 56, 64)),
    ("layer1.1.conv2", "conv 3x3 relu", (56, 56, 64), (56, 56, 64)),
    ("layer1.1.conv3", "conv 1x1 add relu", (56, 56, 64), (56, 56, 256)),
)
LAYERS = [
    {"layer": name, "kind": kind, "input": shape, "output": to} for name, kind, shape, to in SIDES
]
PIXELS = 56 * 56


def conv(pixels=1024, outputs=256, taps=9, channels=256, residual=0, name="layer3.1.conv2"):
    read = pixels * channels
    return Conv(name, pixels, outputs, taps, channels, 0, read, residual, read)


class Layers(unittest.TestCase):
    def test_projections_join_the_last_convolution_of_their_block(self):
        convs = convs_of(LAYERS)
        self.assertEqual(len(convs), 6)
        joined, added = convs[2], convs[5]
        self.assertEqual((joined.k, joined.residual_values), (128, 0))
        self.assertEqual(joined.read_values, PIXELS * 128)
        self.assertEqual((added.k, added.residual_values), (64, PIXELS * 256))

    def test_a_block_keeps_what_it_reads_later(self):
        convs = convs_of(LAYERS)
        self.assertEqual(convs[0].live_values, PIXELS * (64 + 64 + 64 + 256))
        self.assertEqual(convs[3].live_values, PIXELS * (256 + 64 + 64))

    def test_integers_take_two_units_a_step_and_each_part_by_itself(self):
        taken = Conv("layer1.0.conv3", 1, 64, 9, 64, 64, 0, 0)
        self.assertEqual((taken.steps(2), taken.steps(1)), (10, 6))

    def test_what_fits_l2_costs_less_of_the_memory(self):
        taken = conv(pixels=1000, taps=1)
        weights, moved = 2 * 256 * 256, 2 * 2 * 1000 * 256
        self.assertAlmostEqual(taken.memory_us(1, 2, RATES), (moved / 1.6 + weights) / 1e6)
        images = int(RATES.l2_held_bytes // (1000 * 256 * 2)) + 1
        all_us = (images * moved + weights) / 1e6
        self.assertAlmostEqual(taken.memory_us(images, 2, RATES), all_us)

    def test_a_batch_in_chunks_is_its_early_layers_chunk_by_chunk(self):
        model = SimpleNamespace(
            layer_us=lambda of, images: images + (1 if of.stage == "layer1" else 0),
            beside_us=lambda batch_len: 1000,
        )
        convs = [conv(name="layer1.0.conv1"), conv(name="layer3.0.conv1")]
        self.assertEqual(batch_us(model, convs, 20), (1000 + 20 + 21, 20))
        # Two chunks of 8 and one of 4, against two of 10.
        self.assertEqual(batch_us(model, convs, 20, (8,)), (1000 + 20 + 9 + 9 + 5, 8))
        self.assertEqual(batch_us(model, convs, 20, (8, 10)), (1000 + 20 + 11 + 11, 10))
        self.assertEqual(batch_us(model, convs, 8, (8, 10)), batch_us(model, convs, 8))


class ByTodaysKernels(unittest.TestCase):
    LAUNCHES = {"conv_64x64": Launch(128, 66832, 4, (64, 64)), "stem": Launch(256, 40928, 8)}

    def loops(self, step):
        kernels = [Kernel("conv_64x64", "sm_90a", registers=114), Kernel("stem", "sm_90a")]
        loops = today.Loops({k.name: k for k in kernels}, self.LAUNCHES)
        loops.step_cycles = lambda name, blocks, l2_bytes_clk: step + blocks
        return loops

    def model(self, split_len=1, step=1000):
        plan = {"layer": "layer3.1.conv2", "kernel": "conv_64x64"}
        plans = [
            {"batch_len": 8, "convs": [plan | {"split_len": 1}]},
            {"batch_len": 1, "convs": [plan | {"split_len": split_len}]},
        ]
        return today.Today(self.loops(step), self.LAUNCHES, plans, 2, RATES)

    def test_a_layer_takes_its_waves_of_blocks(self):
        # 132 x 4 blocks of 36 steps, of which three fit a multiprocessor: two waves.
        cycles = 4 * 36 * 1003 + 2 * today.OUTSIDE_CYCLES
        found = self.model().layer_us(conv(pixels=64 * 132), 1)
        self.assertAlmostEqual(found, cycles / 1e3 + RATES.gap_us)

    def test_a_split_layer_has_shorter_blocks_and_joins_them(self):
        found = self.model(split_len=4).layer_us(conv(pixels=64 * 33), 1)
        joined = today.JOIN_CYCLES + 8 * 132 * 4 * 64 * 64 / (32 * 132)
        cycles = 4 * 9 * 1003 + 2 * today.OUTSIDE_CYCLES + joined
        self.assertAlmostEqual(found, cycles / 1e3 + RATES.gap_us)

    def test_a_layer_takes_the_memorys_time_where_that_is_longer(self):
        taken = conv(pixels=64 * 132)
        found = self.model(step=0).layer_us(taken, 8)
        self.assertAlmostEqual(found, taken.memory_us(8, 2, RATES) + RATES.gap_us)

    def test_steps_wait_for_their_copies_from_l2(self):
        waits = ("LDGDEPBAR", "DEPBAR.LE SB0, 0x4")
        loop = ("MOV R1, R2", HMMA, LDGSTS, *waits, "@P0 BRA 0x10", "EXIT")
        of_loop = kernel(*loop, name="conv_64x64")
        launches = {"conv_64x64": Launch(128, 66832, 4, (64, 64))}
        loops = today.Loops({0: of_loop}, launches)
        # 2 KiB a block and step, at 32 bytes a clock; with five steps in flight no latency shows.
        self.assertAlmostEqual(loops.step_cycles("conv_64x64", 2, 32), 64, delta=3)

    def test_stored_loops_stand_for_the_machine_code(self):
        loop = (
            "MOV R1, R2",
            HMMA,
            LDGSTS,
            "LDGDEPBAR",
            "DEPBAR.LE SB0, 0x4",
            "@P0 BRA 0x10",
            "EXIT",
        )
        of_loop = kernel(*loop, name="conv_64x64")
        of_loop.registers = 114
        loops = today.Loops({0: of_loop, 1: kernel("EXIT", name="stem")}, self.LAUNCHES)
        rates = (RATES, replace(RATES, l2_bytes_clk=16))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "loops.json")
            path.write_text(json.dumps(loops.stored(rates)))
            stored = today.StoredLoops(path)
        self.assertEqual(list(stored.kernels), ["conv_64x64"])
        self.assertEqual(stored.blocks("conv_64x64"), loops.blocks("conv_64x64"))
        for each in rates:
            cycles = [of.step_cycles("conv_64x64", 2, each.l2_bytes_clk) for of in (stored, loops)]
            self.assertAlmostEqual(*cycles, delta=0.1)
        nearer = [stored.step_cycles("conv_64x64", 2, l2_bytes_clk) for l2_bytes_clk in (23, 25)]
        self.assertAlmostEqual(nearer[0], 2 * nearer[1], delta=6)

    def test_what_is_stored_is_of_these_kernels(self):
        """scripts/predict.sh --write renews it."""
        _, limits = read_limits(Path(today.__file__).with_name("limits.txt").read_text())
        registers = {
            name: of["registers"] for (target, name), of in limits.items() if target == "sm_90a"
        }
        stored = today.StoredLoops()
        for name, loop in stored.kernels.items():
            self.assertEqual(loop["registers"], registers[name], name)
        rates = [each.l2_bytes_clk for each in read_rates()]
        self.assertEqual(stored.l2_bytes_clk, rates)


class ByWgmma(unittest.TestCase):
    model = Wgmma(2, RATES, 2)

    def test_a_pair_shares_pixels_or_else_weights(self):
        tile = Tile(128, 256)
        copied = [self.model.copied_rows(tile, conv(outputs=n), 2) for n in (256, 128)]
        self.assertEqual(copied, [128 + 128, 64 + 256])
        self.assertEqual(self.model.copied_rows(tile, conv(), 1), 384)

    def test_each_warpgroup_reads_its_operands(self):
        tiles = (Tile(128, 256), Tile(64, 256), Tile(64, 192, splits=(1, 2)))
        self.assertEqual([tile.operand_rows for tile in tiles], [640, 384, 256])

    def test_a_tile_takes_whole_waves_by_its_longest_resource(self):
        taken = conv(pixels=192 * 100)
        # 200 tiles, two waves; 36 steps of 320 rows at 32 bytes a clock.
        epilogue = 128 * 192 / 128 * 3.3 * 0.6 + 300
        found = self.model.tile_cycles(Tile(128, 192), taken, 1, 1, 1)
        self.assertAlmostEqual(found, 2 * (36 * 320 * 4 + epilogue) + 1400)

    def test_blocks_that_share_a_sum_share_steps_and_results_and_send_sums(self):
        small = Tile(64, 64, 2, splits=(1, 4))
        # 66 tiles of 4 blocks, two a multiprocessor at once; 9 of 36 steps of 128 rows each.
        results = 64 * 16 / 128 * 3.3 * 0.6 + 300
        sums = 400 + 2 * 4 * 64 * 64 * 3 / 4 / 11
        found = self.model.tile_cycles(small, conv(pixels=64 * 66, outputs=64), 1, 1, 4)
        self.assertAlmostEqual(found, 2 * 9 * 128 * 4 + results + sums + 800)

    def test_sums_are_shared_by_no_more_blocks_than_steps(self):
        small = Tile(64, 64, 2, splits=(1, 2, 4, 8))
        taken = conv(taps=1, channels=128)
        self.assertEqual(self.model.splits(small, taken), [1, 2])
        joined = Conv("layer2.0.conv3", 1, 512, 1, 512, 512, 0, 0)
        self.assertEqual(Wgmma(1, RATES, 2).splits(small, joined), [1])
        self.assertEqual(self.model.splits(Tile(128, 256), taken), [1])

    def test_halves_of_steps_are_zeros_for_64_channels_in_8_bits(self):
        integers = Wgmma(1, RATES, 1)
        self.assertEqual(integers.step_len(conv(channels=64)), 9)
        self.assertEqual(integers.step_len(conv(channels=128)), 9)
        self.assertEqual(self.model.step_len(conv(channels=128)), 18)

    def test_only_tiles_that_can_compute_a_layer_are_tried(self):
        narrow = [c[2] for c in self.model.candidates(conv(outputs=64), 1)]
        self.assertFalse([name for name in narrow if name.startswith("128x")])
        self.assertNotIn("halo", narrow)
        first = conv(outputs=64, channels=64, name="layer1.1.conv2")
        self.assertIn("halo", [c[2] for c in self.model.candidates(first, 1)])
        alone = Wgmma(2, RATES, 1).candidates(conv(), 1)
        self.assertFalse([c for c in alone if c[2].endswith("cluster 2")])

    def test_beside_other_kernels_only_what_is_built_is_tried(self):
        other = SimpleNamespace(layer_us=lambda of, images: 7.0, beside_us=lambda images: 5.0)
        built = Wgmma(2, RATES, 2, other, shares_sums=False)
        names = [c[2] for c in built.candidates(conv(outputs=128), 1)]
        self.assertEqual(
            names,
            [
                "128x256/1 cluster 1",
                "128x192/1 cluster 1",
                "128x128/1 cluster 1",
                "64x256/1 cluster 1",
            ],
        )
        pairs = [c[2] for c in built.candidates(conv(outputs=256), 1)]
        self.assertIn("128x192/1 cluster 2", pairs)
        first = conv(outputs=64, channels=64, name="layer1.1.conv2")
        self.assertNotIn("halo", [c[2] for c in built.candidates(first, 1)])
        # And the other kernels' time is taken where it is less.
        self.assertEqual((built.layer_us(conv(), 1), built.beside_us(1)), (7.0, 5.0))

    def test_blocks_that_fill_a_multiprocessor_hide_no_start(self):
        gaps = {name.split("/")[0]: gap for _, gap, name in self.model.candidates(conv(), 1)}
        self.assertEqual((gaps["128x256"], gaps["64x56"]), (1.0, 0.7))

    def test_a_kernel_by_its_name_is_its_tile(self):
        us = dict(
            (c[2], self.model.with_memory_us(conv(), 32, c[0]) + c[1])
            for c in self.model.candidates(conv(), 32)
        )
        for name, split_k, tile in (
            ("conv_wgmma_128x192_pair", 1, "128x192/1 cluster 2"),
            ("conv_wgmma_128x128", 1, "128x128/1 cluster 1"),
            ("conv_wgmma_64x64_split", 4, "64x64/4 cluster 1"),
        ):
            self.assertEqual(self.model.kernel_us(conv(), 32, name, split_k), us[tile], name)
        self.assertIsNone(self.model.kernel_us(conv(), 32, "conv_wgmma_32x32", 1))

    def test_writes_cost_reads_as_far_as_they_share_the_port(self):
        apart = Wgmma(2, replace(RATES, write_share=0, l2_bytes_clk=1e9), 1)
        shared = Wgmma(2, replace(RATES, write_share=1, l2_bytes_clk=1e9), 1)
        times = [model.tile_cycles(Tile(64, 256), conv(), 1, 1, 1) for model in (apart, shared)]
        # 4 x 4 tiles on 132 multiprocessors; 36 steps of 533 cycles of products against 704 of rows.
        self.assertAlmostEqual(times[1] - times[0], 36 * (704 - 512 / 0.96), delta=1)


class Tables(unittest.TestCase):
    ROWS = [
        predict.Row(
            "today's kernels", "f16", {n: [(200.04 * n, n), (100 * n, n)] for n in (1, 128)}
        ),
        predict.Row("chunks", "f16", {n: [(9, 8), (8, 10)] for n in (1, 8, 32, 128)}),
    ]

    def test_cells_go_from_the_pessimist_to_what_is_expected(self):
        self.assertEqual(predict.cell(1, self.ROWS[0].times[1]), "200 to 100")
        text = "25605 to 12800 µs, 5.0 to 10.0 k/s"
        self.assertEqual(predict.cell(128, self.ROWS[0].times[128]), text)
        self.assertEqual(predict.cell(32, self.ROWS[1].times[32]), "9 to 8; chunks of 8, 10")


if __name__ == "__main__":
    unittest.main()
