"""Which results form a side, and how the seeds of two sides are paired."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from result_builder import PROTOCOL, made_dataset, made_result, random_ious, seeds_of, stopping_early

from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.record import Result
from vfm_isbench.results.sides import Pair, Side, distinct, group_sides, side_of, why_apart

NOC90 = Metric.named("noc90")


def test_results_are_sorted_by_name_and_hash_of_the_upsampler() -> None:
    bilinear, jbu = seeds_of("bilinear", [2, 0, 1]), seeds_of("jbu", [0])
    sides = group_sides([bilinear[0], *jbu, *bilinear[1:]])
    assert [(side.label, side.seeds) for side in sides] == [("bilinear", (0, 1, 2)), ("jbu", (0,))]


def test_equal_names_are_told_apart() -> None:
    first, second, third = (
        made_result(made_dataset(random_ious(number)), sha256=sha256)
        for number, sha256 in ((1, "1" * 64), (2, "2" * 64), (3, None))
    )
    labels = [side.label for side in group_sides([first, second, third])]
    assert labels == ["bilinear (111111111111)", "bilinear (222222222222)", "bilinear (unknown)"]
    assert [side.label for side in distinct([side_of(first), side_of(first)])] == [
        "bilinear (111111111111) #1",
        "bilinear (111111111111) #2",
    ]


def test_the_same_run_twice_is_one_and_a_rerun_that_differs_is_refused() -> None:
    run = made_result(made_dataset(random_ious(1)))
    timed_anew = dataclasses.replace(
        run, datasets={"davis": dataclasses.replace(run.datasets["davis"], seconds_per_click=3.0)}
    )
    assert side_of([run, timed_anew]).seeds == (0,)
    with pytest.raises(ComparisonError, match="two different results of bilinear with seed 0"):
        side_of([run, made_result(made_dataset(random_ious(2)))])
    with pytest.raises(IncomparableError, match="bilinear are incomparable: .* disk_radius 5.0 and 4.0"):
        side_of([run, made_result(made_dataset(random_ious(1)), protocol=PROTOCOL.replace(disk_radius=4))])


def test_a_side_is_read_from_files_and_folders(tmp_path: Path) -> None:
    runs = seeds_of("jbu", [0, 1])
    file = runs[0].save(tmp_path / "seed0.json")
    runs[1].save(tmp_path / "run" / "result.json")
    side = side_of([file, str(tmp_path / "run")])
    assert (side.label, side.seeds, side.sha256) == ("jbu", (0, 1), runs[0].upsampler["sha256"])
    assert side_of(file).seeds == side_of(runs[0]).seeds == (0,)
    assert side_of(side) is side
    with pytest.raises(ResultError, match="absent"):
        side_of(tmp_path / "absent")


def test_a_side_of_different_upsamplers_or_of_none_is_refused() -> None:
    with pytest.raises(ComparisonError, match="one upsampler, got 2: bilinear, jbu"):
        side_of([*seeds_of("bilinear", [0]), *seeds_of("jbu", [0])])
    with pytest.raises(ComparisonError, match="got 0: none"):
        side_of([])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0], [0], (True, (0,), (0,))),
        ([0], [1], (False, (0,), (1,))),
        ([0, 1, 2], [0, 1, 2], (True, (0, 1, 2), (0, 1, 2))),
        ([0, 1, 2], [0, 1, 2, 3, 4], (True, (0, 1, 2), (0, 1, 2))),
        ([0, 1, 2], [1, 2, 3], (True, (1, 2), (1, 2))),
        ([0, 1, 2], [2, 3, 4], (False, (0, 1, 2), (2, 3, 4))),
        ([0, 1, 2], [3, 4], (False, (0, 1, 2), (3, 4))),
        ([0, 1, 2], [0], (False, (0, 1, 2), (0,))),
    ],
)
def test_common_seeds_are_paired_if_they_are_two_or_all(
    first: list[int], second: list[int], expected: tuple[bool, tuple[int, ...], tuple[int, ...]]
) -> None:
    pair = Pair.of(side_of(seeds_of("bilinear", first)), side_of(seeds_of("jbu", second)), "davis")
    assert (pair.paired_seeds, pair.first.seeds, pair.second.seeds) == expected
    left_out = {*first, *second} - {*pair.first.seeds, *pair.second.seeds}
    assert all(any(f"{seed}" in remark and "left out" in remark for remark in pair.remarks) for seed in left_out)
    is_alone = len(pair.first.seeds) == len(pair.second.seeds) == 1
    assert any("one training seed" in remark for remark in pair.remarks) == is_alone


def test_a_rerun_of_one_seed_is_held_against_that_seed() -> None:
    runs = seeds_of("jbu", [0, 1, 2])
    pair = Pair.of(side_of(runs), side_of(runs[1]), "davis")
    assert (pair.paired_seeds, pair.first.seeds, pair.second.seeds) == (True, (1,), (1,))


def test_a_rerun_that_stops_early_is_the_same_run_as_far_as_it_goes() -> None:
    runs = seeds_of("jbu", [0, 1, 2])
    pair = Pair.of(side_of(runs), side_of(stopping_early(runs[1])), "davis")
    assert pair.paired_seeds
    assert pair.difference(NOC90).value == 0
    assert np.isnan(pair.difference(Metric.named("mean_iou")).value)


def test_objects_are_paired_by_id_and_not_by_place() -> None:
    first = made_result(made_dataset(random_ious(1), content=None))
    found = first.datasets["davis"]
    backwards = dataclasses.replace(found, objects=found.objects[::-1])
    second = made_result(backwards, name="jbu", sha256="1" * 64)
    difference = Pair.of(side_of(first), side_of(second), "davis").difference(NOC90)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_differences_within_a_side_are_reasons_too() -> None:
    good, odd = seeds_of("jbu", [0, 1]), seeds_of("bilinear", [0])
    odd += [made_result(made_dataset(random_ious(7)[:8]), sha256=odd[0].upsampler["sha256"], seed=1)]
    reasons = why_apart(side_of(odd), side_of(good), "davis")
    assert len(reasons) == 1
    assert reasons[0].startswith("bilinear, seeds 0 and 1: davis: 32 of 40 objects only in the first")
    assert why_apart(side_of(good), Side("x", (odd[0],)), "davis") == []


def test_objects_at_the_cap_are_counted_per_side() -> None:
    low = made_result(made_dataset([[0.1] * 6, [0.95] * 6]), made_dataset(random_ious(1)[:2], name="sbd"))
    high = made_result(made_dataset([[0.95] * 6, [0.95] * 6]), name="jbu", sha256="1" * 64)
    pair = Pair.of(side_of(low), side_of(high), "davis")
    assert pair.at_cap(NOC90) == (1.0, 0.0)
    assert all(np.isnan(value) for value in pair.at_cap(Metric.named("mean_iou")))


def behaving(result: Result, upsampler: list[float], device: str = "cpu") -> Result:
    return dataclasses.replace(
        result,
        upsampler={**result.upsampler, "behaviour": upsampler},
        environment={**result.environment, "device": device},
    )


def test_results_of_an_upsampler_without_a_hash_are_not_seeds_of_one() -> None:
    unknown = [made_result(made_dataset(random_ious(seed)), sha256=None, seed=seed) for seed in range(3)]
    assert [side.seeds for side in group_sides([*unknown, unknown[0]])] == [(0,), (1,), (2,)]


def test_seeds_with_equal_hashes_but_other_features_are_not_seeds_of_one_upsampler() -> None:
    first, second, third = seeds_of("mine", [0, 1, 2])
    near = [behaving(first, [0.5, 1.0]), behaving(second, [0.5001, 1.0]), behaving(third, [0.51, 1.0], "NVIDIA H100")]
    assert [side.seeds for side in group_sides(near)] == [(0, 1, 2)]
    with pytest.raises(IncomparableError, match="different features for the same input"):
        group_sides([near[0], behaving(second, [0.51, 1.0])])


@pytest.mark.parametrize("given", [3, [3], {"epochs": 1}, None])
def test_what_is_no_result_is_named(given: object) -> None:
    with pytest.raises(ComparisonError, match="expected a result, .* or a list of these, got .* of type"):
        side_of(given)  # type: ignore[arg-type]
