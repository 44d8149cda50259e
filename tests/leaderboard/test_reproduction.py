"""When a rerun reproduces an entry: the same inputs, within the interval, and no difference object by object."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from result_builder import synthetic_entry

from vfm_isbench.leaderboard.reproduction import compare_with
from vfm_isbench.results import Result

ENTRY = synthetic_entry("mine", skill=0.5)


def changed(run: Result, change: Any) -> Result:
    """The run with its N×K IoUs replaced by ``change`` of them."""
    scenes = run.datasets["scenes"]
    ious = np.clip(change(scenes.ious), 0, 1)
    objects = tuple(
        dataclasses.replace(one, ious=tuple(map(float, row))) for one, row in zip(scenes.objects, ious, strict=True)
    )
    return dataclasses.replace(run, datasets={"scenes": dataclasses.replace(scenes, objects=objects)})


def one_object_better(ious: Any) -> Any:
    ious = ious.copy()
    ious[3, 1] += 0.0125
    return ious


def test_the_same_again_is_reproduced_and_its_difference_is_nothing() -> None:
    verdict = compare_with(ENTRY, ENTRY.runs)
    assert verdict.is_reproduced
    assert verdict.largest == {"scenes": 0.0}
    assert "scenes: the largest difference of an object's IoU is 0.000000" in str(verdict)
    assert "DIFFERENT" not in str(verdict)


def test_a_little_noise_is_let_pass_and_told() -> None:
    verdict = compare_with(ENTRY, [changed(ENTRY.runs[0], one_object_better), *ENTRY.runs[1:]])
    assert verdict.is_reproduced
    assert "is 0.012500" in str(verdict)


def test_a_rerun_within_the_interval_that_is_better_throughout_is_told_apart() -> None:
    verdict = compare_with(ENTRY, [changed(run, lambda ious: ious + 0.01) for run in ENTRY.runs])
    (at_one,) = [one for one in verdict.agreements if one.metric == "iou_at_1"]
    assert at_one.entry.low < at_one.rerun < at_one.entry.high
    assert at_one.is_apart and not at_one.holds
    assert not verdict.is_reproduced
    assert "within the interval, paired difference +0.0100" in str(at_one) and "DIFFERENT" in str(at_one)


def test_an_unknown_hash_on_either_side_is_a_difference() -> None:
    for part in ("upsampler", "backbone"):
        bare = [dataclasses.replace(run, **{part: {**getattr(run, part), "sha256": None}}) for run in ENTRY.runs]
        unknown = dataclasses.replace(ENTRY, runs=tuple(bare))
        for entry, rerun in ((ENTRY, bare), (unknown, ENTRY.runs), (unknown, bare)):
            verdict = compare_with(entry, rerun)
            assert not verdict.is_reproduced
            assert f"seed 0: the {part} may differ: its hash is " in str(verdict)
    assert "in the rerun unknown" in str(verdict)


def test_another_normalisation_of_the_backbones_input_is_a_difference() -> None:
    first, rerun = (
        [dataclasses.replace(run, backbone={**run.backbone, "mean": [mean] * 3}) for run in ENTRY.runs]
        for mean in (0.5, 0.4)
    )
    assert compare_with(ENTRY, rerun).is_reproduced, "earlier entries do not say"
    verdict = compare_with(dataclasses.replace(ENTRY, runs=tuple(first)), rerun)
    assert not verdict.is_reproduced
    assert "mean of the backbone's input is [0.5, 0.5, 0.5], in the rerun [0.4, 0.4, 0.4]" in str(verdict)


def test_other_objects_are_a_difference_and_are_not_compared() -> None:
    scenes = ENTRY.runs[0].datasets["scenes"]
    fewer = dataclasses.replace(ENTRY.runs[0], datasets={
        "scenes": dataclasses.replace(scenes, objects=scenes.objects[:-1])
    })  # fmt: skip
    verdict = compare_with(ENTRY, [fewer, *ENTRY.runs[1:]])
    assert not verdict.is_reproduced
    assert (verdict.agreements, verdict.largest) == ((), {})
    assert "seed 0: scenes has other objects or another number of clicks in the rerun" in str(verdict)
