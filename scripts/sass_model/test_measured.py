"""Tests of predictions beside measurements: python3 -m unittest discover -s scripts/sass_model"""

import unittest
from dataclasses import replace

import measured
from measured import Predictor, clock_under_load_ghz, corrected
from test_predictions import LAYERS, RATES

CONV1, CONV2 = "layer1.0.conv1", "layer1.0.conv2"
DEVICE = {"step": "device", "name": "NVIDIA H100", "driver": "580.1", "time": "2026-12-01"}


class Loops:
    """Every kernel's step takes a thousand cycles at either rate of L2."""

    kernels = {"conv_64x64": {}, "stem": {}}

    def blocks(self, name):
        return 2

    def step_cycles(self, name, blocks, l2_bytes_clk):
        return 1000


class Predictions(unittest.TestCase):
    rates = (RATES, replace(RATES, gap_us=1.7, gap_full_us=2.0))
    model = Predictor(LAYERS, "f16", rates, Loops())

    def test_a_layer_is_predicted_by_the_kernel_that_was_measured(self):
        # 49 blocks of 64 pixels, of 9 steps; the pessimist's gap is a microsecond longer.
        pessimist, expected = self.model.layer_us(CONV2, "conv_64x64", 1, 1)
        self.assertAlmostEqual(expected, 9 + 2.6 + 0.7)
        self.assertAlmostEqual(pessimist - expected, 1)
        wgmma = self.model.layer_us(CONV2, "conv_wgmma_64x256", 1, 1)
        self.assertNotEqual(wgmma[1], expected)
        for layer, kernel in ((CONV2, "conv_7x7"), ("avgpool", "average_pool")):
            self.assertIsNone(self.model.layer_us(layer, kernel, 1, 1), kernel)

    def test_a_batch_is_its_launches(self):
        steps = [("maxpool", "stem", 1), (CONV2, "conv_64x64", 1), ("fc", "fully_connected", 1)]
        found = self.model.batch_us(steps, 1)[1]
        parts = [self.model.layer_us(*step, 1)[1] for step in steps[:2]]
        around_us = 1.5 + 1.5 + 2.0 + 3 * 0.7
        self.assertAlmostEqual(found, sum(parts) + around_us)
        self.assertIsNone(self.model.batch_us([(CONV2, "conv_7x7", 1)], 8))

    def test_chunks_repeat_the_early_layers_alone(self):
        steps = [("maxpool", "stem", 1), (CONV1, "conv_64x64", 1)]
        late = [step for step in steps if not self.model.is_early(step)]
        self.assertEqual(late, [])
        whole, in_chunks = (self.model.batch_us(steps, 20, length)[1] for length in (None, 8))
        parts = [self.model.layer_us(*step, n)[1] for step in steps for n in (8, 8, 4)]
        once = [self.model.layer_us(*step, 20)[1] for step in steps]
        self.assertAlmostEqual(in_chunks - whole, sum(parts) - sum(once))


class Corrections(unittest.TestCase):
    READ = {"clock_ghz": 1.7, "gap_us": 0.7, "hbm_tb_s": 3.0, "measured": {"hbm_tb_s": "before"}}
    FIGURES = [
        {"step": "probe-graph_gap", "figure": "gap_us", "value": 0.9},
        {"step": "probe-two_streams", "figure": "pair_rate", "value": 1.1},
    ]

    def test_what_was_measured_takes_the_place_of_what_was_assumed(self):
        where = "NVIDIA H100, driver 580.1, 2026-12-01"
        expected = self.READ | {"gap_us": 0.9, "measured": {"hbm_tb_s": "before", "gap_us": where}}
        self.assertEqual(corrected(self.READ, [DEVICE, *self.FIGURES]), expected)

    def test_where_writes_were_measured_no_pessimist_knows_better(self):
        found = measured.measured_rates([{"figure": "write_share", "value": 0.2}])
        self.assertEqual(found, {"write_share": 0.2, "write_pessimist_share": 0.2})

    def test_nothing_is_corrected_without_a_gpu_or_figures(self):
        self.assertEqual(corrected(self.READ, self.FIGURES), {})
        self.assertEqual(corrected(self.READ, [DEVICE]), {})

    def test_the_clock_is_that_of_a_device_at_work(self):
        samples = [(100, 1980), (600, 1500), (610, 1600), (640, 1700), (90, 1980)]
        lines = [
            {"step": "profile", "power_w": power_w, "clock_mhz": clock}
            for power_w, clock in samples
        ]
        self.assertEqual(clock_under_load_ghz(lines, "profile"), 1.6)
        self.assertIsNone(clock_under_load_ghz(lines, "load"))
        self.assertEqual(measured.measured_rates(lines), {"clock_ghz": 1.6})


if __name__ == "__main__":
    unittest.main()
