"""Comparisons: numbers that follow from the evidence, in every output format."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from result_builder import PROTOCOL, made_dataset, made_result, random_ious, seeds_of

import vfm_isbench
from vfm_isbench.errors import ComparisonError, IncomparableError, UnknownNameError
from vfm_isbench.results import Comparison, Difference, Result
from vfm_isbench.results.comparison import METRICS

FIRST = made_result(
    made_dataset([[0.5, 0.8, 0.9], [0.2, 0.3, 0.4], [0.9, 0.9, 0.9], [0.4, 0.9, 0.9]]),
    protocol=PROTOCOL.replace(max_clicks=3),
)
SECOND = made_result(
    made_dataset([[0.5, 0.9, 0.9], [0.2, 0.3, 0.9], [0.8, 0.8, 0.95], [0.4, 0.9, 0.9]]),
    name="jbu",
    sha256="1" * 64,
    protocol=PROTOCOL.replace(max_clicks=3),
)


def one(comparison: Comparison, metric: str, second: str | None = None) -> Difference:
    (found,) = (found for found in comparison.differences if found.metric == metric and second in (None, found.second))
    return found


def test_figures_of_a_small_case_by_hand() -> None:
    comparison = vfm_isbench.compare(FIRST, SECOND)
    noc90 = one(comparison, "noc90")
    # Clicks needed: 3, 3 (never), 1, 2 on the first side; 2, 3, 3, 2 on the second.
    assert (noc90.first_value, noc90.second_value, noc90.difference.value) == (2.25, 2.5, 0.25)
    assert (noc90.better, noc90.equal, noc90.worse) == (0.25, 0.5, 0.25)
    assert (noc90.first_at_cap, noc90.second_at_cap) == (2.0, 2.0)
    assert (noc90.objects, noc90.images) == (4, 2)
    first_click = one(comparison, "iou_at_1")
    assert first_click.difference.value == pytest.approx(-0.025)
    assert (first_click.better, first_click.equal, first_click.worse) == (0.0, 0.75, 0.25)
    assert math.isnan(first_click.first_at_cap)
    assert [found.metric for found in comparison.differences] == ["noc80", "noc85", "noc90", "iou_at_1", "mean_iou"]


def test_swapped_sides_give_the_opposite() -> None:
    there = vfm_isbench.compare(seeds_of("bilinear", [0, 1, 2]), seeds_of("jbu", [0, 1, 2], shift=0.03))
    back = vfm_isbench.compare(seeds_of("jbu", [0, 1, 2], shift=0.03), seeds_of("bilinear", [0, 1, 2]))
    for mine, theirs in zip(there.differences, back.differences, strict=True):
        assert mine.difference.value == pytest.approx(-theirs.difference.value)
        assert mine.difference.error == pytest.approx(theirs.difference.error)
        assert (mine.better, mine.worse) == (theirs.worse, theirs.better)
        np.testing.assert_equal((mine.first_at_cap, mine.second_at_cap), (theirs.second_at_cap, theirs.first_at_cap))


def test_a_real_difference_is_separable_and_none_is_not() -> None:
    base = seeds_of("bilinear", [0, 1, 2])
    better = vfm_isbench.compare(base, seeds_of("jbu", [0, 1, 2], shift=0.05))
    assert one(better, "mean_iou").is_separable
    assert one(better, "mean_iou").difference.low > 0
    assert not one(vfm_isbench.compare(base, seeds_of("jbu", [0, 1, 2])), "noc90").is_separable
    same = one(vfm_isbench.compare(base, base), "noc90")
    assert (same.difference.low, same.difference.high, same.equal) == (0, 0, 1)


@pytest.mark.parametrize(("first", "second"), [([0, 1, 2], [0, 1, 2]), ([0, 1, 2, 3, 4], [5, 6, 7]), ([0], [1, 2, 3])])
def test_both_components_are_reported(first: list[int], second: list[int]) -> None:
    comparison = vfm_isbench.compare(seeds_of("bilinear", first), seeds_of("jbu", second))
    for found in comparison.differences:
        assert found.difference.objects_error > 0
        assert found.difference.seeds_error is not None and found.difference.seeds_error >= 0
    assert "± objects" in str(comparison) and "± seeds" in str(comparison)


def test_of_several_sides_each_is_compared_with_the_first() -> None:
    sides = [
        seeds_of("bilinear", [0, 1]),
        seeds_of("jbu", [0, 1], shift=0.02),
        seeds_of("nearest", [0, 1], shift=-0.02),
    ]
    comparison = vfm_isbench.compare(*sides)
    assert {(found.first, found.second) for found in comparison.differences} == {
        ("bilinear", "jbu"),
        ("bilinear", "nearest"),
    }
    assert one(comparison, "mean_iou", "jbu").difference.value == pytest.approx(0.02, abs=0.01)
    assert one(comparison, "mean_iou", "nearest").difference.value == pytest.approx(-0.02, abs=0.01)
    assert comparison.is_complete


def test_the_frame_has_a_row_per_score() -> None:
    comparison = vfm_isbench.compare(seeds_of("bilinear", [0]), seeds_of("jbu", [0]))
    frame = comparison.to_frame()
    assert len(frame) == len(comparison.differences) == 6
    for row, found in zip(frame.to_dict("records"), comparison.differences, strict=True):
        assert (row["metric"], row["difference"], row["low"]) == (
            found.metric,
            found.difference.value,
            found.difference.low,
        )
        assert math.isnan(row["seeds_error"])


def test_it_is_ready_for_json() -> None:
    content = json.loads(json.dumps(vfm_isbench.compare(FIRST, SECOND).to_dict(), allow_nan=False))
    noc90 = content["differences"][2]
    assert (noc90["metric"], noc90["difference"]["value"], noc90["difference"]["seeds_error"]) == ("noc90", 0.25, None)
    assert content["differences"][3]["first_at_cap"] is None
    assert [line["side"] for line in content["signatures"]] == ["bilinear", "jbu"]


def test_text_and_markdown_say_the_same_figures_and_sign_them() -> None:
    comparison = vfm_isbench.compare(seeds_of("bilinear", [0, 1, 2]), seeds_of("jbu", [0, 1, 2], shift=0.05))
    for text in (str(comparison), comparison.to_markdown()):
        found = one(comparison, "noc90")
        assert f"{found.first_value:.2f}" in text
        assert f"−{-found.difference.value:.2f}" in text
        assert "noc80,noc85,noc90,iou_at_1,iou_at_5,mean_iou|davis:40|" in text
        assert "|seed:0,1,2|" in text
        assert "40 objects in 20 images" in text


def test_markdown_shows_names_as_they_are_and_keeps_its_columns() -> None:
    odd = seeds_of("bilinear", [0])
    odd[0].upsampler["name"] = "<b>a|b</b>\n`c`"  # type: ignore[index]
    text = vfm_isbench.compare(odd, seeds_of("jbu", [0])).to_markdown()
    assert "<b>" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "\\<b\\>a\\|b\\</b\\> \\`c\\`" in table[0]


def test_what_differs_is_left_out_and_said() -> None:
    ious = random_ious(7)
    first = made_result(made_dataset(ious), made_dataset(ious, name="sbd"))
    second = made_result(
        made_dataset(ious), made_dataset(ious, name="sbd", content="1" * 64), name="jbu", sha256="1" * 64
    )
    comparison = vfm_isbench.compare(first, second)
    assert {found.dataset for found in comparison.differences} == {"davis"}
    assert len(comparison.incomparable) == 1
    for text in (str(comparison), comparison.to_markdown().replace("**", "")):
        assert "incomparable: bilinear and jbu: sbd: the same ids" in text
    assert comparison.is_complete


def test_three_sides_are_ranked_with_ranges() -> None:
    sides = [seeds_of("bilinear", [0, 1, 2]), seeds_of("jbu", [0, 1, 2], shift=0.06), seeds_of("alike", [0, 1, 2])]
    comparison = vfm_isbench.compare(*sides, metrics=["noc90", "mean_iou"])
    found = {(rank.metric, rank.side): str(rank.place) for rank in comparison.ranks}
    assert set(rank.dataset for rank in comparison.ranks) == {"davis"}
    assert found["noc90", "jbu"] == found["mean_iou", "jbu"] == "1 (1–1)"
    assert {found["mean_iou", "bilinear"], found["mean_iou", "alike"]} == {"2 (2–3)", "3 (2–3)"}
    assert "ranks · davis" in str(comparison)
    assert "| jbu | 1 \\(1–1\\) | 1 \\(1–1\\) |" in comparison.to_markdown()
    first = comparison.to_dict()["ranks"][0]
    assert set(first) == {"dataset", "metric", "side", "value", "rank", "rank_low", "rank_high"}
    assert (first["dataset"], first["metric"], first["side"]) == ("davis", "noc90", "bilinear")


def test_two_sides_need_no_ranks() -> None:
    assert vfm_isbench.compare(FIRST, SECOND).ranks == ()


def test_over_several_data_sets_the_mean_is_ranked_too() -> None:
    def side(name: str, davis: float, sbd: float) -> list[Result]:
        return [
            made_result(
                made_dataset(np.clip(random_ious(7) + davis, 0, 1)),
                made_dataset(np.clip(random_ious(8) + sbd, 0, 1), name="sbd"),
                name=name, sha256=f"{sum(map(ord, name)):064x}", seed=seed,
            )
            for seed in (0, 1)
        ]  # fmt: skip

    sides = [side("even", 0.05, 0.05), side("mixed", 0.06, -0.2), side("low", 0.0, 0.0)]
    ranks = vfm_isbench.compare(*sides, metrics=["mean_iou"]).ranks
    assert [rank.dataset for rank in ranks] == ["davis"] * 3 + ["sbd"] * 3 + ["all"] * 3
    assert [rank.place.rank for rank in ranks] == [2, 1, 3, 1, 3, 2, 1, 3, 2]


def test_a_side_that_cannot_be_compared_makes_it_incomplete() -> None:
    comparison = vfm_isbench.compare(
        seeds_of("bilinear", [0]),
        seeds_of("jbu", [0]),
        seeds_of("nearest", [0], protocol=PROTOCOL.replace(disk_radius=4)),
    )
    assert not comparison.is_complete
    assert "nearest" in comparison.sides
    assert "disk_radius 5.0 and 4.0" in comparison.incomparable[0]


def test_nothing_to_compare_is_an_error_with_every_reason() -> None:
    other = seeds_of("jbu", [0], protocol=PROTOCOL.replace(disk_radius=4), backbone_sha256="e" * 64)
    with pytest.raises(IncomparableError, match=r"bilinear and jbu: the protocols differ.*weights of the backbone"):
        vfm_isbench.compare(seeds_of("bilinear", [0]), other)


def test_missing_scores_stay_missing() -> None:
    ious = np.array([[0.5, 0.95, np.nan], [0.2, 0.3, 0.4], [0.91, np.nan, np.nan], [0.5, 0.6, 0.92]])
    protocol = PROTOCOL.replace(max_clicks=3)
    early = made_result(made_dataset(ious, stop_at_iou=(80, 85, 90)), name="jbu", sha256="1" * 64, protocol=protocol)
    comparison = vfm_isbench.compare(FIRST, early)
    noc90, mean = one(comparison, "noc90"), one(comparison, "mean_iou")
    assert noc90.second_value == 2.25
    assert math.isnan(mean.second_value) and math.isnan(mean.difference.value) and math.isnan(mean.better)
    assert not mean.is_separable
    assert one(comparison, "iou_at_1").difference.value == pytest.approx(0.5275 - 0.5)
    assert any("mean IoU missing" in remark for remark in comparison.remarks)
    row = next(line for line in str(comparison).splitlines() if line.startswith("mean IoU"))
    assert row.split()[3:] == ["–"] * (len(row.split()) - 3)
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["differences"][-1]["difference"]["low"] is None


def test_the_same_results_give_the_same_comparison() -> None:
    sides = [seeds_of(name, [0, 1]) for name in ("bilinear", "jbu", "nearest")]
    assert vfm_isbench.compare(*sides).to_dict() == vfm_isbench.compare(*sides).to_dict()


def test_metrics_and_data_sets_can_be_chosen() -> None:
    comparison = vfm_isbench.compare(FIRST, SECOND, metrics=["iou_at_2"], datasets=["davis"])
    assert [found.metric for found in comparison.differences] == ["iou_at_2"]
    assert set(METRICS) > {"noc90", "mean_iou"}
    with pytest.raises(UnknownNameError, match="unknown data set of these results 'sbd'.*Known: davis"):
        vfm_isbench.compare(FIRST, SECOND, datasets=["sbd"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metrics": ["noc"]}, "unknown metric 'noc'"),
        ({"metrics": ["iou_at_9"]}, "has 3 clicks"),
        ({"confidence": 1.0}, "confidence between 0 and 1"),
        ({"confidence": math.nan}, "confidence between 0 and 1"),
    ],
)
def test_wrong_use_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ComparisonError, match=said):
        vfm_isbench.compare(FIRST, SECOND, **more)  # type: ignore[arg-type]


def test_one_side_is_not_compared() -> None:
    with pytest.raises(ComparisonError, match="at least two"):
        vfm_isbench.compare(FIRST)


def test_a_single_data_set_or_score_needs_no_list() -> None:
    chosen = vfm_isbench.compare(FIRST, SECOND, datasets="davis", metrics="iou_at_2")
    in_lists = vfm_isbench.compare(FIRST, SECOND, datasets=["davis"], metrics=["iou_at_2"])
    assert str(chosen) == str(in_lists)


def test_two_sides_of_one_upsampler_are_remarked() -> None:
    seeds = seeds_of("bilinear", [0, 1])
    assert (
        "two sides are the same upsampler, bilinear with seed 0 and with seed 1: to compare it with another one, give "
        "its seeds as one side, in a list: compare([a, b], …)"
    ) in vfm_isbench.compare(*seeds).remarks
    assert "two sides of bilinear are the same results" in vfm_isbench.compare(seeds, seeds).remarks
    others = vfm_isbench.compare(seeds, seeds_of("jbu", [2, 3])).remarks
    assert not [remark for remark in others if "two sides" in remark]
