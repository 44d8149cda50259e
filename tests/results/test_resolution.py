"""``vfm_isbench.resolution``: components from results, smallest differences, budgets, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from result_builder import made_dataset, made_result, random_ious, seeds_of, stopping_early

import vfm_isbench
from vfm_isbench import Protocol, Result
from vfm_isbench.errors import ComparisonError, UnknownNameError
from vfm_isbench.results.budgets import Budget, cheapest
from vfm_isbench.results.measured import Cost, Measured, stored
from vfm_isbench.results.resolution import resolution_of


def runs_of(name: str, seeds: Sequence[int], noise: float = 0.08, offset: float = 0.02, base: int = 7) -> list[Result]:
    """Results with known times, whose seeds differ as a whole and by object."""
    results = []
    for seed in seeds:
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        ious = random_ious(base) + offset * rng.normal() + noise * rng.normal(size=(40, 1))
        run = made_result(made_dataset(ious.clip(0, 1)), name=name, sha256=f"{sum(map(ord, name)):064x}", seed=seed)
        results.append(replace(run, timings={"training": 60.0, "predicting.davis": 30.0, "clicking.davis": 10.0}))
    return results


MINE, OTHER = runs_of("mine", [0, 1, 2]), runs_of("other", [0, 1, 2])


def test_components_are_those_of_paired_differences() -> None:
    found = vfm_isbench.resolution(MINE, OTHER, metric="mean_iou")
    (measured,) = found.measured
    assert (measured.objects, measured.images, measured.seeds) == (40, 20, 3)
    assert measured.basis == "differences of mine, other"
    # Both sides saw the same objects, so what remains is noise by object and seed, of both sides.
    assert measured.components["mean_iou"].both == pytest.approx(2 * 0.08**2, rel=0.5)
    assert measured.components["mean_iou"].objects < 0.3 * measured.components["mean_iou"].both
    assert found.smallest("mean_iou", objects=4000) < found.smallest("mean_iou")
    assert found.smallest("mean_iou", seeds=10) < found.smallest("mean_iou")
    assert set(measured.components) == {"noc80", "noc85", "noc90", "iou_at_1", "iou_at_3", "iou_at_5", "mean_iou"}


def test_the_order_and_the_grouping_of_results_do_not_matter() -> None:
    together = vfm_isbench.resolution(MINE, OTHER).to_dict()
    assert vfm_isbench.resolution(*MINE, *OTHER).to_dict() == together
    assert (
        vfm_isbench.resolution(*(run for pair in zip(MINE, OTHER, strict=True) for run in pair)).to_dict() == together
    )


def test_components_are_averaged_over_pairs() -> None:
    third = runs_of("third", [0, 1, 2], noise=0.2)
    found = [vfm_isbench.resolution(*sides).measured[0] for sides in ((MINE, OTHER), (MINE, third), (OTHER, third))]
    both = vfm_isbench.resolution(MINE, OTHER, third).measured[0]
    for part in ("objects", "images", "seeds", "both"):
        mean = np.mean([getattr(one.components["noc80"], part) for one in found])
        assert getattr(both.components["noc80"], part) == pytest.approx(mean)


def test_one_upsampler_counts_twice_and_says_so() -> None:
    found = vfm_isbench.resolution(MINE)
    assert found.measured[0].basis == "twice the variances of mine"
    assert "sqrt(2)" in str(found) and "is an assumption" in str(found)
    assert found.smallest("mean_iou") > vfm_isbench.resolution(MINE, OTHER).smallest("mean_iou")


def test_budgets_reach_the_margin_and_the_cheapest_is_marked() -> None:
    found = vfm_isbench.resolution(MINE, OTHER, metric="mean_iou", margin=0.03)
    budgets = found.budgets()
    assert budgets
    for budget in budgets:
        assert found.smallest("mean_iou", objects=budget.objects, seeds=budget.seeds) <= 0.03
        fewer = int(0.98 * budget.objects)
        assert fewer < 3 or found.smallest("mean_iou", objects=fewer, seeds=budget.seeds) > 0.03
    best = cheapest(budgets)
    assert best is not None and all(best.seconds <= budget.seconds for budget in budgets)
    assert best.seconds == pytest.approx(best.seeds * (60 + best.objects))
    text = str(found)
    assert text.count("cheapest") == 1 and "budgets that resolve 3.00 IoU points" in text


def test_a_margin_below_what_seeds_allow_has_no_budget() -> None:
    found = vfm_isbench.resolution(runs_of("a", [0, 1], offset=0.3), runs_of("b", [0, 1], offset=0.3), margin=1e-4)
    assert found.budgets() == []
    assert "seeds differ too much" in str(found)


def test_without_times_there_is_no_cheapest() -> None:
    found = vfm_isbench.resolution(seeds_of("a", [0, 1]), seeds_of("b", [0, 1]), margin=0.5)
    assert found.measured[0].cost is None
    assert cheapest(found.budgets()) is None and "cheapest" not in str(found)


def test_the_time_of_a_budget() -> None:
    cost = Cost(seconds_per_seed=100, seconds_per_object=2)
    assert Budget(3, 50, cost).seconds == 600
    assert Budget(3, 50, None).to_dict() == {"seeds": 3, "objects": 50, "seconds": None}


def test_scores_that_early_stopping_left_out_are_left_out() -> None:
    found = vfm_isbench.resolution(*map(stopping_early, [*MINE, *OTHER]))
    assert "mean_iou" not in found.measured[0].components
    assert np.isnan(found.smallest("mean_iou"))
    assert "noc80" in found.measured[0].components


def test_numbers_survive_json() -> None:
    found = vfm_isbench.resolution(MINE, OTHER, margin=1.0)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = Measured.from_dict(content["datasets"][0])
    assert again == found.measured[0]
    assert resolution_of([again], margin=1.0, metric=found.metric).to_dict() == found.to_dict()
    frame = found.to_frame()
    assert list(frame["metric"]) == list(found.measured[0].components)
    assert (frame["smallest_difference"] >= 0).all()


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    for run in [*MINE, *OTHER]:
        run.save(tmp_path / f"{run.upsampler['name']}{run.protocol.seed}" / "result.json")
    found = vfm_isbench.resolution(*sorted(tmp_path.iterdir()))
    assert found.measured == vfm_isbench.resolution(MINE, OTHER).measured


@pytest.mark.parametrize(
    ("results", "more", "said"),
    [
        ((), {}, "at least one upsampler"),
        ((MINE[0],), {}, "at least two training seeds"),
        ((MINE[0], OTHER[0]), {}, "at least two training seeds"),
        ((MINE,), {"seeds": 1}, "at least 2 seeds"),
        ((MINE,), {"objects": 1}, "at least 3 objects"),
        ((MINE,), {"margin": 0.0}, "margin above 0 clicks"),
        ((MINE,), {"power": 1.0}, "power in"),
        ((MINE,), {"confidence": 0.5}, "confidence in"),
        ((MINE,), {"metric": "noc"}, "unknown metric"),
    ],
)
def test_wrong_use_is_refused(results: Sequence[object], more: dict[str, float], said: str) -> None:
    with pytest.raises(ComparisonError, match=said):
        vfm_isbench.resolution(*results, **more)  # type: ignore[arg-type]


def test_a_data_set_that_no_result_has_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="davis"):
        vfm_isbench.resolution(MINE, datasets=["grabcut"])


def test_budgets_need_a_margin() -> None:
    with pytest.raises(ComparisonError, match="need a margin"):
        vfm_isbench.resolution(MINE).budgets()


def test_a_protocol_without_stored_components_says_what_to_pass() -> None:
    with pytest.raises(ComparisonError, match=r"Give results instead.*vfm-isbench power"):
        stored(Protocol.preset("paper"))


def test_a_single_data_set_or_score_needs_no_list() -> None:
    chosen = vfm_isbench.resolution(MINE, OTHER, datasets="davis", metrics="noc80", metric="noc90")
    assert str(chosen) == str(
        vfm_isbench.resolution(MINE, OTHER, datasets=["davis"], metrics=["noc80"], metric="noc90")
    )
