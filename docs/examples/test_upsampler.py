"""Tests that an upsampler keeps the contract and is not worse than the results in ``baseline/``.

Copy this file beside the upsampler's other tests, and set the names in capitals. It takes about three minutes per seed.
Run pytest from the root of the repository: paths are relative to the current folder. Make the baseline there too, and
on the machine that runs the tests, because another one rounds differently:
``vfm-isbench baseline make my_upsampler.py:Upsampler --seeds 0 1 2``.
"""

from pathlib import Path

import vfm_isbench
from vfm_isbench import cli

UPSAMPLER = "my_upsampler.py:Upsampler"
BASELINE = Path("baseline")
# For another protocol, give its options here and to "baseline make": --protocol demo@1, --set FIELD=VALUE and so on.
PROTOCOL_OPTIONS = ["--protocol", "demo"]
PROTOCOL = vfm_isbench.Protocol.preset("demo")  # the same, in Python: add .replace(FIELD=VALUE)
SEEDS = (0, 1, 2)  # at least three: with fewer, most changes cannot be told from chance
# A score, and how much worse it may be: see "Which seeds, which margin" in docs/ci.md.
METRIC = "mean_iou"
MARGIN = 0.01  # IoU in [0, 1]: one point


def test_it_keeps_the_contract(capsys):
    assert cli.main(["check", UPSAMPLER, *PROTOCOL_OPTIONS]) == 0, "".join(capsys.readouterr())


def test_the_baseline_still_holds(capsys):
    code = cli.main(["baseline", "check", str(BASELINE), "--upsampler", UPSAMPLER, *PROTOCOL_OPTIONS, "--quiet"])
    assert code == 0, "".join(capsys.readouterr())


def test_it_is_not_worse_than_the_baseline():
    """Fails, too, if the data are too few to tell; regress(…, allow_inconclusive=True) lets that pass."""
    results = [vfm_isbench.evaluate(UPSAMPLER, PROTOCOL.replace(seed=seed)) for seed in SEEDS]
    regression = vfm_isbench.regress(results, sorted(BASELINE.glob("*.json")), metric=METRIC, margin=MARGIN)
    assert regression.exit_code == 0, str(regression)
