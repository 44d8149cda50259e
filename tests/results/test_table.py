"""The standard table."""

from __future__ import annotations

import dataclasses

import pytest

from vfm_isbench.errors import ResultError, UnknownNameError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.columns import column_names
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize


def result_with(clicks: int, seconds: float | None) -> Result:
    """Two objects; the first reaches 0.5, 0.6, … and the second stays at 0.1."""
    objects = tuple(
        ObjectEvidence(
            ObjectId(name),
            tuple(Click(0, k, True) for k in range(clicks)),
            tuple(first + step * k for k in range(clicks)),
        )
        for name, first, step in (("a", 0.5, 0.1), ("b", 0.1, 0.0))
    )
    return Result(
        protocol=Protocol.preset("paper").replace(max_clicks=clicks),
        upsampler={"name": "my_upsampler"},
        backbone={"name": "dinov2_vits14"},
        datasets={"grabcut": DatasetResult("grabcut", objects, seconds), "sbd": DatasetResult("sbd", objects[:1])},
        notes=("read this", "and this"),
    )


def rows(result: Result) -> list[list[str]]:
    lines = str(result).splitlines()
    start = next(index for index, line in enumerate(lines) if "NoC80" in line)
    return [line.split() for line in lines[start : start + 4] if "─" not in line]


def test_scores_stand_below_their_names() -> None:
    header, grabcut, sbd = rows(result_with(5, 0.1234))
    # The name "data set" is two words.
    assert header[2:] == ["objects", "NoC80", "NoC85", "NoC90", "IoU@1", "IoU@5", "≥5@90", "s/click"]
    assert grabcut == ["grabcut", "2", "4.50", "5.00", "5.00", "30.00", "50.00", "2", "0.123"]
    assert sbd == ["sbd", "1", "4.00", "5.00", "5.00", "50.00", "90.00", "1", "–"]


def test_what_was_not_measured_is_a_dash() -> None:
    _, grabcut, _ = rows(result_with(3, None))
    assert grabcut[6] == "–"  # IoU@5 of three clicks
    assert grabcut[8] == "–"  # nothing timed


def test_says_what_was_measured_in_which_units_and_under_which_protocol() -> None:
    result = result_with(5, None)
    lines = str(result).splitlines()
    assert lines[0] == "my_upsampler · paper protocol · dinov2_vits14"
    assert "fewer is better, 5 at most" in str(result)
    assert result.signature() in lines
    assert lines[-2:] == ["note: read this", "note: and this"]


def test_columns_are_aligned() -> None:
    lines = str(result_with(5, 0.1)).splitlines()
    assert len({len(line) for line in lines[2:6]}) == 1


def with_sizes(result: Result, *pixels: int) -> Result:
    """Sizes for the objects of the first data set, and boundary IoUs half as high as the IoUs."""
    found = result.datasets["grabcut"]
    objects = tuple(
        dataclasses.replace(one, size=ObjectSize(count, 100, 100), boundary_ious=tuple(iou / 2 for iou in one.ious))
        for one, count in zip(found.objects, pixels, strict=True)
    )
    return dataclasses.replace(result, datasets={"grabcut": dataclasses.replace(found, objects=objects)})


def cells(table: str) -> list[list[str]]:
    """Rows of a table, without heading and explanation."""
    lines = table.splitlines()[2:]
    return [line.split() for line in lines[: lines.index("")] if "─" not in line]


def test_a_table_has_the_columns_that_are_asked_for() -> None:
    result = with_sizes(result_with(5, 0.1), 50, 2000)
    result = dataclasses.replace(
        result,
        upsampler={"name": "x", "n_parameters": 2_500_000, "flops_per_image": 3 * 10**9, "peak_bytes": 2**29},
        peak_memory={"training": 2**31},
    )
    names = ["noc95", "nof90", "not_reached80", "iou@5", "iou_auc", "boundary_iou@1", "gflops", "parameters"]
    header, row = cells(result.table([*names, "upsampler_memory", "training_memory", "evaluation_memory"]))
    assert header[2:8] == ["NoC95", "NoF90", "≥5@80", "IoU@5", "IoU-AUC", "bIoU@1"]
    auc = 100 * ((0.5 / 2 + 0.6 + 0.7 + 0.8 + 0.9 / 2) / 4 + 0.1) / 2
    assert row[1:] == ["5.00", "1", "1", "50.00", f"{auc:.2f}", "15.00", "3.00", "2.50", "0.50", "2.00", "–"]
    explained = result.table(["nof90", "nof95", "iou@5"]).splitlines()[-1]
    assert explained.count("NoF: objects that do not reach an IoU in % within 5 clicks") == 1
    assert "(IoU@5 is also called 5-mIoU)" in explained


def test_what_is_unknown_is_a_dash_in_any_column() -> None:
    header, row, _ = cells(result_with(3, None).table([*column_names(), "iou_at_20", "noc7"]))
    assert len(header) - 2 >= len(column_names())
    assert row[-2:] == ["–", "1.00"]
    stopped = DatasetResult(
        "grabcut", result_with(5, None).datasets["grabcut"].objects[:1], stop_at_iou=(80,), click_cap=9
    )
    _, row = cells(dataclasses.replace(result_with(5, None), datasets={"grabcut": stopped}).table(["nof80", "nof90"]))
    assert row == ["grabcut", "0", "–"]


def test_an_unknown_column_is_named_with_those_that_exist() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown column 'noc_90'. Did you mean 'noc90'\? Known: noc80, .*iou_auc"
    ):
        result_with(3, None).table(["noc_90"])


def test_objects_by_size() -> None:
    result = with_sizes(result_with(5, 0.1), 99, 100)
    header, small, medium = cells(result.table(by_size=True))
    assert small[:6] == ["grabcut,", "small", "(below", "1", "%)", "1"]
    assert medium[:7] == ["grabcut,", "medium", "(1", "to", "10", "%)", "1"]
    assert (small[6], medium[7]) == ("4.00", "5.00"), "NoC80"
    _, large = cells(with_sizes(result, 1000, 10000).table(["noc80"], by_size=True))
    assert large == ["grabcut,", "large", "(10", "%", "or", "more)", "4.50"]


def test_sizes_that_were_not_kept_are_missed() -> None:
    with pytest.raises(ResultError, match="'grabcut': the sizes of its objects are unknown.*vfm-isbench eval"):
        result_with(5, 0.1).table(by_size=True)
