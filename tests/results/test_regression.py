"""The gate: what passes, fails or stays open, and how often it is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_builder import PROTOCOL, made_dataset, made_result, random_ious, seeds_of, synthetic_result

import vfm_isbench
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.errors import ComparisonError, IncomparableError
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.protocol import HEADLINES
from vfm_isbench.results.regression import Regression

BASE = seeds_of("bilinear", [0, 1, 2])


@pytest.mark.parametrize("metric", ["noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "mean_iou"])
@pytest.mark.parametrize("seeds", [[0], [0, 1], [0, 1, 2], [1]])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_same_runs_again_pass(metric: str, seeds: list[int], margin: float) -> None:
    again = seeds_of("bilinear", seeds)
    regression = vfm_isbench.regress(again, BASE, metric=metric, margin=margin)
    assert (regression.verdict, regression.exit_code) == ("pass", 0)
    assert regression.judgements[0].worsening.value == 0


def test_the_same_run_passes_even_where_no_interval_can_be_made() -> None:
    one = made_result(made_dataset(random_ious(1)[:2]))
    assert vfm_isbench.regress(one, one).verdict == "pass"


@pytest.mark.parametrize(
    ("metric", "shift", "margin", "verdict", "code"),
    [
        ("mean_iou", -0.10, 0.05, "regression", 1),
        ("mean_iou", -0.01, 0.05, "pass", 0),
        ("mean_iou", +0.10, 0.05, "pass", 0),
        ("mean_iou", +0.10, 0.0, "pass", 0),
        ("mean_iou", -0.05, 0.05, "inconclusive", 4),
        ("iou_at_1", -0.10, 0.05, "regression", 1),
        ("iou_at_1", +0.10, 0.05, "pass", 0),
        ("noc80", -0.25, 0.05, "regression", 1),
        ("noc80", +0.25, 0.05, "pass", 0),
        ("noc80", 0.00, 0.05, "inconclusive", 4),
        ("noc80", 0.00, 3.0, "pass", 0),
    ],
)
def test_the_verdict_follows_the_direction_of_the_metric(
    metric: str, shift: float, margin: float, verdict: str, code: int
) -> None:
    new = seeds_of("mine", [3, 4, 5], shift=shift)
    regression = vfm_isbench.regress(new, BASE, metric=metric, margin=margin)
    assert (regression.verdict, regression.exit_code) == (verdict, code)
    worsening = regression.judgements[0].worsening
    assert worsening.low <= worsening.value <= worsening.high
    assert (worsening.high <= margin) == (verdict == "pass")
    assert (worsening.low > margin) == (verdict == "regression")


def test_bounds_are_one_sided() -> None:
    """5 % lie beyond each end of a 90 % interval."""
    new = seeds_of("mine", [3, 4, 5])
    regression = vfm_isbench.regress(new, BASE, metric="noc80", confidence=0.95)
    (two_sided,) = vfm_isbench.compare(BASE, new, metrics=["noc80"], confidence=0.9).differences
    worsening = regression.judgements[0].worsening
    assert (worsening.low, worsening.high) == pytest.approx((two_sided.difference.low, two_sided.difference.high))


def test_it_errs_as_rarely_as_promised() -> None:
    """For upsamplers exactly at the margin, neither verdict may occur in more than about 5 % of trials."""
    rng = np.random.default_rng(0)
    verdicts = {"pass": 0, "regression": 0, "inconclusive": 0}
    for _ in range(150):
        difficulty = rng.normal(scale=0.03, size=(20, 1)).repeat(2, axis=0)
        first = 0.6 + rng.normal(scale=0.02, size=(40, 6))
        second = first - 0.02 + difficulty
        regression = vfm_isbench.regress(
            made_result(made_dataset(second), name="mine", sha256="1" * 64),
            made_result(made_dataset(first)),
            metric="mean_iou",
            margin=0.02,
        )
        verdicts[regression.verdict] += 1
    assert verdicts["pass"] <= 15 and verdicts["regression"] <= 15, verdicts
    assert verdicts["pass"] + verdicts["regression"] > 0, verdicts


def noisy_pair(objects: int) -> tuple[vfm_isbench.Result, vfm_isbench.Result]:
    """Worse by exactly 0.01 IoU on average, with the same spread for any number of objects."""
    first = np.full((objects, 6), 0.6)
    second = first - 0.01 + np.tile([0.1, 0.1, -0.1, -0.1], objects // 4)[:, None]
    return made_result(made_dataset(second), name="mine", sha256="1" * 64), made_result(made_dataset(first))


def test_the_number_of_objects_asked_for_does_settle_it() -> None:
    new, base = noisy_pair(40)
    (judgement,) = vfm_isbench.regress(new, base, metric="mean_iou", margin=0.03).judgements
    assert judgement.verdict == "inconclusive"
    needed = judgement.objects_needed
    assert needed is not None and needed > 40
    more = 4 * math.ceil(1.15 * needed / 4)
    assert vfm_isbench.regress(*noisy_pair(more), metric="mean_iou", margin=0.03).verdict == "pass"
    fewer = 4 * math.floor(0.65 * needed / 4)
    assert vfm_isbench.regress(*noisy_pair(fewer), metric="mean_iou", margin=0.03).verdict == "inconclusive"


def test_where_seeds_differ_too_much_objects_do_not_help() -> None:
    rng = np.random.default_rng(0)
    luck = iter([0.0, 0.1, -0.1, 0.02, 0.12, -0.09])

    def runs(name: str, seeds: list[int]) -> list[vfm_isbench.Result]:
        return [
            made_result(made_dataset(0.6 + next(luck) + rng.normal(scale=0.001, size=(40, 6))), name=name, seed=seed)
            for seed in seeds
        ]

    regression = vfm_isbench.regress(runs("mine", [0, 1, 2]), runs("base", [3, 4, 5]), metric="mean_iou", margin=0.0)
    assert regression.verdict == "inconclusive"
    assert regression.judgements[0].objects_needed is None
    for text in (str(regression), regression.to_markdown()):
        assert "Run the same seeds on both sides" in text and "objects would settle it" not in text


def much_worse(seed: int, objects: int = 8, **fields: Any) -> tuple[vfm_isbench.Result, vfm_isbench.Result]:
    """A result that is 11 points of IoU worse on average, far from evenly, and its baseline."""
    base = random_ious(3, objects=objects)
    lost = 0.11 + np.tile([0.3, 0.2, -0.2, -0.3], objects // 4)[:, None]
    lost = lost + 0.002 * np.random.default_rng([5, seed]).normal(size=lost.shape)
    broken, bilinear = (
        made_result(made_dataset(ious, per_image=1), name=name, sha256=name[:1] * 64, seed=seed, **fields)
        for name, ious in (("broken", base - lost), ("bilinear", base))
    )
    return broken, bilinear


def test_an_estimate_beyond_the_margin_is_called_a_likely_regression() -> None:
    regression = vfm_isbench.regress(*much_worse(0), metric="mean_iou", margin=0.01)
    (judgement,) = regression.judgements
    assert (regression.verdict, regression.exit_code) == ("inconclusive", 4)
    assert regression.is_likely_regression and judgement.is_likely_regression
    worsening = judgement.worsening
    assert worsening.value == pytest.approx(0.11, abs=0.002) and worsening.low < 0.01
    for text in (str(regression), regression.to_markdown().replace("\\", "")):
        assert "likely regression, not established" in text
        assert (
            f"the estimate, worse by +{100 * worsening.value:.2f} IoU points," in text
            and "beyond the margin of 1.00" in text
        )
        assert "from one seed and 8 objects, reach back within it" in text
        assert "Run at least 3 seeds on both sides (--seed 0, --seed 1, --seed 2)" in text
        assert "This fails (exit code 4), because a pass means" in text and "--allow-inconclusive" in text
    assert regression.to_markdown().startswith("### ❔ vfm-isbench regress: inconclusive, likely a regression\n")
    assert regression.to_dict()["is_likely_regression"] is True
    assert regression.to_dict()["datasets"][0]["is_likely_regression"] is True


def test_an_estimate_within_the_margin_is_not_called_a_regression() -> None:
    regression = vfm_isbench.regress(*much_worse(0), metric="mean_iou", margin=0.2)
    assert regression.verdict == "inconclusive" and not regression.is_likely_regression
    assert "regression" not in str(regression)
    assert "not settled: the estimate" in str(regression) and "is within the margin of 20.00" in str(regression)


def test_inconclusive_passes_only_if_that_is_allowed() -> None:
    """Neither a regression nor incomparable results ever do."""
    new, base = much_worse(0)
    allowed = vfm_isbench.regress(new, base, metric="mean_iou", margin=0.01, allow_inconclusive=True)
    assert (allowed.verdict, allowed.exit_code, allowed.to_dict()["exit_code"]) == ("inconclusive", 0, 0)
    assert "likely regression" in str(allowed) and "is allowed here" in str(allowed)
    title = allowed.to_markdown().splitlines()[0]
    assert title.endswith("vfm-isbench regress: inconclusive, allowed to pass (likely a regression)")
    regression = vfm_isbench.regress(seeds_of("mine", [0, 1, 2], shift=-0.2), BASE, allow_inconclusive=True)
    assert (regression.verdict, regression.exit_code) == ("regression", 1)
    other = seeds_of("mine", [0], protocol=PROTOCOL.replace(disk_radius=4))
    assert vfm_isbench.regress(other, BASE[0], allow_inconclusive=True).exit_code == 3


@pytest.mark.parametrize(
    ("limit", "said"), [(8, "raise the limit of 8 objects (--limit N)"), (None, "larger test set (--datasets)")]
)
def test_the_advice_names_options_that_exist(limit: int | None, said: str) -> None:
    protocol = PROTOCOL.replace(object_limit=limit)
    new, base = zip(*(much_worse(seed, protocol=protocol) for seed in (0, 1, 2)), strict=True)
    regression = vfm_isbench.regress(new, base, metric="mean_iou", margin=0.01)
    assert regression.is_likely_regression
    assert "More seeds alone would not settle it. With these seeds, about 4" in str(regression)
    assert said in str(regression)
    assert "Raise the margin" not in str(regression), "it would hide what is likely a regression"
    parser = build_parser()
    for words in (
        "run bilinear --seed 3 --limit 9 --datasets davis --protocol demo",
        "baseline make --again DIR --seeds 0 1 2 3",
        "regress RESULT --baseline RESULT --allow-inconclusive",
    ):
        parser.parse_args(words.split())


def test_the_number_of_seeds_asked_for_does_settle_it() -> None:
    def runs(n_seeds: int, name: str) -> list[vfm_isbench.Result]:
        luck = 0.02 * np.resize([1.0, -1.0, 0.0], n_seeds) if name == "mine" else np.zeros(n_seeds)
        shift = 0.0 if name == "base" else -0.05
        return [
            made_result(
                made_dataset(random_ious(7) * 0.5 + 0.3 + shift + luck[s]), name=name, seed=s, sha256=name[0] * 64
            )
            for s in range(n_seeds)
        ]

    (judgement,) = (
        few := vfm_isbench.regress(runs(3, "mine"), runs(3, "base"), metric="mean_iou", margin=0.03)
    ).judgements
    assert few.is_likely_regression
    needed = judgement.seeds_needed
    assert needed is not None and needed > 3
    assert f"about {needed} seeds on both sides would settle it: vfm-isbench baseline make --again DIR" in str(few)
    needed += -needed % 3
    more = vfm_isbench.regress(runs(needed, "mine"), runs(needed, "base"), metric="mean_iou", margin=0.03)
    assert more.verdict == "regression"


def test_the_number_of_objects_is_that_of_the_power_command_and_a_margin_that_is_too_small_is_named() -> None:
    new = seeds_of("mine", [0, 1, 2], shift=-0.02)
    tight = vfm_isbench.regress(new, BASE, metric="noc90", margin=0.12)
    (judgement,) = tight.judgements
    assert judgement.verdict == "inconclusive" and judgement.smallest_margin is not None
    gap = abs(judgement.worsening.value - 0.12)
    planned = vfm_isbench.resolution(new, BASE, metric="noc90", margin=gap)
    assert judgement.objects_needed == next(one.objects for one in planned.budgets() if one.seeds == 3)
    assert judgement.smallest_margin == pytest.approx(planned.smallest("noc90"))
    assert tight.to_dict()["datasets"][0]["smallest_margin"] == judgement.smallest_margin
    advice = "These seeds and objects resolve 0.13 clicks; with a smaller margin, even an upsampler as good as the"
    assert advice in str(tight) and "Raise the margin to at least that: --margin 0.13." in str(tight)
    wide = vfm_isbench.regress(*much_worse(0), metric="mean_iou", margin=0.2)
    assert wide.judgements[0].smallest_margin is None and "resolve" not in str(wide), "unknown from one seed"


def test_seeds_that_one_side_lacks_are_noted() -> None:
    some = vfm_isbench.regress(seeds_of("mine", [0]), BASE, metric="mean_iou")
    said = (
        "mine has only seed 0, bilinear (baseline) has seeds 0, 1, 2, so seeds could not be paired, and the bounds are "
        "rougher. For a sound verdict, run seeds 1, 2 of mine too"
    )
    assert (some.verdict, some.remarks) == ("pass", (said,))
    left_out = vfm_isbench.regress(seeds_of("mine", [0, 1]), BASE, metric="mean_iou")
    assert left_out.remarks == ("seed 2 of bilinear (baseline) left out: the other side has no such seed",)
    left_out = vfm_isbench.regress(BASE[1:2], BASE, metric="mean_iou")
    assert "seeds 0, 2 of bilinear (baseline) left out: the other side has no such seed" in left_out.remarks
    open_ = vfm_isbench.regress(seeds_of("mine", [3], shift=-0.05), BASE[:2], metric="mean_iou", margin=0.05)
    assert "from 2 seeds of the baseline, one seed of the result and 40 objects" in str(open_)


def test_a_result_that_is_given_twice_counts_once_and_is_noted() -> None:
    new = seeds_of("mine", [0])
    twice = vfm_isbench.regress([*new, *new], BASE[:1], metric="mean_iou")
    assert "mine: 2 results were given, but some are copies of others; each seed counts once (seed 0)" in twice.remarks
    assert sum("training seed" in remark for remark in twice.remarks) == 1, "said once"
    assert not any("copies" in remark for remark in vfm_isbench.regress(new, BASE[:1]).remarks)


def test_a_folder_of_results_is_a_side(tmp_path: Path) -> None:
    for result in BASE:
        result.save(tmp_path / "baseline" / f"seed{result.protocol.seed}.json")
    run = seeds_of("mine", [0])[0].save(tmp_path / "run" / "result.json").parent
    found = vfm_isbench.regress(seeds_of("mine", [0, 1, 2]), tmp_path / "baseline", metric="mean_iou")
    assert found.judgements[0].difference.first_seeds == (0, 1, 2)
    assert vfm_isbench.regress(run, [str(tmp_path / "baseline")], metric="mean_iou").verdict == "pass"


def in_environment(results: Sequence[vfm_isbench.Result], **changes: Any) -> list[vfm_isbench.Result]:
    return [dataclasses.replace(one, environment={**one.environment, **changes}) for one in results]


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ({"cpu_capability": "AVX2"}, {"cpu_capability": "AVX512"}, "CPU capability AVX2 and AVX512"),
        ({"threads": 1}, {"threads": 4}, "threads 1 and 4"),
        ({"torch": "2.14.1+cpu"}, {"torch": "2.15.0+cpu"}, "torch 2.14.1+cpu and 2.15.0+cpu"),
        ({"device": "cpu"}, {"device": "NVIDIA H100"}, "device cpu and NVIDIA H100"),
        (
            {"platform": "Linux-6.1-x86_64-with-glibc2.36"},
            {"platform": "Windows-11-10.0.22631-SP0"},
            "system Linux glibc2.36 and Windows",
        ),
        ({"vfm_isbench": "0.4.0"}, {"vfm_isbench": "0.5.0"}, "vfm_isbench 0.4.0 and 0.5.0"),
        (
            {"vfm_isbench_code": "a" * 64},
            {"vfm_isbench_code": "b" * 64},
            "the version is the same, its hash is aaaaaaaaaaaa and bbbbbbbbbbbb",
        ),
    ],
)
def test_another_environment_or_library_of_the_baseline_is_noted(
    then: dict[str, Any], now: dict[str, Any], said: str
) -> None:
    new = seeds_of("mine", [0, 1, 2])
    apart = vfm_isbench.regress(in_environment(new, **now), in_environment(BASE, **then))
    assert said in str(apart) and said in apart.to_markdown().replace("\\", "")
    assert said in str(vfm_isbench.compare(in_environment(BASE, **then), in_environment(new, **now)))


def test_what_is_alike_or_not_recorded_is_not_noted() -> None:
    """Results of earlier versions lack the capability and the hash of the code."""
    new, recorded = seeds_of("mine", [0, 1, 2]), {"cpu_capability": "AVX2", "vfm_isbench_code": "a" * 64}
    for then, now in ((recorded, recorded), ({}, recorded), (recorded, {})):
        pair = in_environment(new, **now), in_environment(BASE, **then)
        assert vfm_isbench.regress(*pair, metric="mean_iou").remarks == ()


def test_a_single_seed_on_both_sides_speaks_for_its_probes_only() -> None:
    said = "the verdict holds for these trained probes only, not for the upsampler: the spread of seeds is unknown"
    alone = vfm_isbench.regress(seeds_of("mine", [3]), BASE[:1], metric="mean_iou")
    assert any(said in remark for remark in alone.remarks)
    assert said in str(alone) and said in alone.to_markdown()
    several = vfm_isbench.regress(seeds_of("mine", [3, 4]), BASE[:2], metric="mean_iou")
    assert said not in str(several)


def test_one_image_is_inconclusive_and_says_so() -> None:
    regression = vfm_isbench.regress(
        made_result(made_dataset(random_ious(1)[:2]), name="mine"), made_result(made_dataset(random_ious(2)[:2]))
    )
    assert regression.verdict == "inconclusive"
    assert "all objects lie in one image" in str(regression)
    assert "More images are needed on both sides: choose a larger test set (--datasets)" in str(regression)


def two_sets(shift: float, sbd_shift: float, name: str) -> vfm_isbench.Result:
    sbd = made_dataset(random_ious(2, shift=sbd_shift), name="sbd", content="1" * 64)
    return made_result(made_dataset(random_ious(1, shift=shift)), sbd, name=name)


def test_one_bad_data_set_decides() -> None:
    base, new = two_sets(0.0, 0.0, "base"), two_sets(0.0, -0.2, "mine")
    regression = vfm_isbench.regress(new, base, metric="mean_iou")
    assert [one.verdict for one in regression.judgements] == ["pass", "regression"]
    assert regression.verdict == "regression"
    assert vfm_isbench.regress(new, base, metric="mean_iou", dataset="davis").verdict == "pass"


def test_a_data_set_that_the_result_lacks_is_no_pass() -> None:
    new = made_result(made_dataset(random_ious(1)), name="mine")
    regression = vfm_isbench.regress(new, two_sets(0.0, 0.0, "base"))
    assert (regression.verdict, regression.exit_code) == ("incomparable", 3)
    assert "sbd: not in the second result" in regression.reasons[0]
    # A data set that the baseline lacks is not judged and does no harm.
    assert vfm_isbench.regress(two_sets(0.0, 0.0, "mine"), made_result(made_dataset(random_ious(1)))).verdict == "pass"


def test_a_baseline_without_data_sets_is_refused() -> None:
    with pytest.raises(ComparisonError, match="the baseline has no data set"):
        vfm_isbench.regress(BASE[0], dataclasses.replace(BASE[0], datasets={}))


def test_incomparable_results_are_not_judged() -> None:
    other = seeds_of("mine", [0], protocol=PROTOCOL.replace(disk_radius=4), backbone_sha256="e" * 64)
    regression = vfm_isbench.regress(other, BASE[0])
    assert (regression.verdict, regression.exit_code, regression.judgements) == ("incomparable", 3, ())
    assert len(regression.reasons) == 2
    for text in (str(regression), regression.to_markdown()):
        assert "disk" in text and "backbone" in text and text.count("incomparable") == 1
        assert "vfm-isbench baseline make --again DIR" in text


@pytest.mark.parametrize("metric", ["mean_iou", "iou_at_5", "noc95"])
def test_a_metric_with_missing_values_is_refused(metric: str) -> None:
    ious = random_ious(1)
    ious[0, 3:] = np.nan
    ious[0, 2] = 0.93
    early = made_result(made_dataset(ious, stop_at_iou=(80, 85, 90)), name="mine")
    base = made_result(made_dataset(random_ious(1)))
    for new, old in ((early, base), (base, early)):
        with pytest.raises(ComparisonError, match=f"{metric} needs clicks that were not placed.*without early stop"):
            vfm_isbench.regress(new, old, metric=metric)
    assert vfm_isbench.regress(early, base, metric="noc90", margin=20.0).verdict == "pass"
    assert vfm_isbench.regress(early, base, metric="iou_at_1").verdict == "pass"


def test_objects_at_the_cap_are_remarked() -> None:
    poor = made_result(made_dataset(random_ious(1) / 2))
    regression = vfm_isbench.regress(poor, poor)
    assert regression.verdict == "pass"
    assert any("more than half of the objects need all clicks" in remark for remark in regression.remarks)
    assert "40 → 40" in str(regression)
    good = made_result(made_dataset(random_ious(1, shift=0.2)))
    assert not any("more than half" in remark for remark in vfm_isbench.regress(good, good, metric="noc80").remarks)


@pytest.mark.parametrize("shift", [0.0, -0.3])
def test_it_is_ready_for_json_and_for_a_summary(shift: float) -> None:
    regression = vfm_isbench.regress(seeds_of("mine", [3, 4, 5], shift=shift), BASE, metric="noc80")
    content = json.loads(json.dumps(regression.to_dict(), allow_nan=False))
    assert (content["verdict"], content["exit_code"]) == (regression.verdict, regression.exit_code)
    assert (content["metric"], content["unit"], content["margin"]) == ("noc80", "clicks", 0.05)
    (judged,) = content["datasets"]
    assert judged["worsening"]["value"] == judged["difference"]["value"]
    assert judged["objects_needed"] == regression.judgements[0].objects_needed
    for text in (str(regression), regression.to_markdown()):
        assert regression.verdict in text
        assert "noc80|davis:40|" in text and "seed:3,4,5" in text and "seed:0,1,2" in text


def test_both_spellings_of_a_metric_give_the_same() -> None:
    new = seeds_of("mine", [3, 4])
    first, second = (vfm_isbench.regress(new, BASE, metric=name) for name in ("iou_at_5", "iou@5"))
    assert first.to_dict() == second.to_dict()


def test_iou_is_worse_when_it_falls() -> None:
    regression: Regression = vfm_isbench.regress(seeds_of("mine", [3, 4], shift=-0.1), BASE, metric="mean_iou")
    (judgement,) = regression.judgements
    assert judgement.difference.difference.value == pytest.approx(-judgement.worsening.value)
    assert judgement.worsening.value > 0
    assert "IoU points" in str(regression)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metric": "noc"}, "unknown metric"),
        ({"metric": "iou_at_20"}, "6 clicks per object"),
        ({"margin": -0.1}, "margin of at least 0 clicks"),
        ({"margin": math.nan}, "margin of at least 0"),
        ({"margin": 5, "metric": "mean_iou"}, r"got 5, .* 0\.01 is one point: for 5 points, use 0\.05"),
        ({"margin": 1, "metric": "iou_at_1"}, r"below 1 for IoU@1, .* for 1 point, use 0\.01"),
        ({"margin": math.inf}, "margin of at least 0"),
        ({"confidence": 0.5}, "between 0.5 and 1"),
        ({"confidence": 1.0}, "between 0.5 and 1"),
    ],
)
def test_wrong_use_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ComparisonError, match=said):
        vfm_isbench.regress(BASE, BASE, **more)  # type: ignore[arg-type]


def test_the_metric_is_by_default_the_headline_of_the_baselines_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vfm_isbench.regress(BASE, BASE).metric == PROTOCOL.headline
    monkeypatch.setitem(HEADLINES, (PROTOCOL.name, PROTOCOL.version), "iou_at_1")
    assert vfm_isbench.regress(BASE, BASE).metric == "iou_at_1"
    assert vfm_isbench.regress(BASE, BASE, metric="noc85").metric == "noc85"
    assert vfm_isbench.resolution(BASE, seeds_of("jbu", [0, 1, 2], noise=0.05)).metric == "iou_at_1"


def test_versions_of_a_protocol_are_never_compared() -> None:
    """The reason names them."""
    new, old = (synthetic_result(protocol=name) for name in ("demo", "demo@1"))
    label = Protocol.preset("demo").label
    for regression in (vfm_isbench.regress(new, old), vfm_isbench.regress(old, new)):
        assert regression.verdict == "incomparable"
        assert regression.exit_code == 3
    assert f"the protocols differ (demo@1 and {label}; hash" in vfm_isbench.regress(new, old).reasons[0]
    with pytest.raises(IncomparableError, match=f"the protocols differ \\({label} and demo@1; hash"):
        vfm_isbench.compare(new, old)
