"""The standard table."""

from __future__ import annotations

from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.types import Click, ObjectEvidence, ObjectId


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
