"""Tests that an upsampler keeps the contract and is not worse than the results in ``baseline/``.

Copy this file beside the upsampler's other tests, and set the names in capitals. It takes some minutes per seed.
"""

from pathlib import Path

import pytest

import vfm_isbench
from vfm_isbench import cli
from vfm_isbench.upsamplers import check_upsampler, load_upsampler

UPSAMPLER = "my_upsampler.py:Upsampler"
BASELINE = Path("baseline")
PROTOCOL = vfm_isbench.Protocol.preset("demo")
SEEDS = (0, 1, 2)
# A score, and how much worse it may be: see "Which seeds, which margin" in docs/ci.md.
METRIC = "mean_iou"
MARGIN = 0.01  # IoU in [0, 1]: one point


def test_it_keeps_the_contract():
    check_upsampler(load_upsampler(UPSAMPLER), channels=112, grid=(8, 8), image_size=(128, 128))


def test_the_baseline_still_holds(capsys):
    """Made by ``vfm-isbench baseline make my_upsampler.py:Upsampler --seeds 0 1 2``."""
    code = cli.main(["baseline", "check", str(BASELINE), "--upsampler", UPSAMPLER, "--quiet"])
    assert code == 0, "".join(capsys.readouterr())


def test_it_is_not_worse_than_the_baseline():
    results = [vfm_isbench.evaluate(UPSAMPLER, PROTOCOL.replace(seed=seed)) for seed in SEEDS]
    regression = vfm_isbench.regress(results, sorted(BASELINE.glob("*.json")), metric=METRIC, margin=MARGIN)
    if regression.verdict == "inconclusive":
        pytest.skip(str(regression))
    assert regression.verdict == "pass", str(regression)
