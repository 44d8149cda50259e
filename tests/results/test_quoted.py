"""Quoted figures: complete, cited, and shown beside measured results without mixing."""

from __future__ import annotations

import dataclasses

import pytest

from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.quoted import METRICS, beside_quoted, differences, quoted_tables
from vfm_isbench.types import Click, ObjectEvidence, ObjectId


def measured(protocol: Protocol, objects: int = 50) -> Result:
    """GrabCut alone: 90 % at click 4, 65.5 % at click 1."""
    ious = (0.655, 0.7, 0.8, 0.9, *[0.95] * (protocol.max_clicks - 4))
    clicks = tuple(Click(0, column, True) for column in range(protocol.max_clicks))
    evidence = tuple(ObjectEvidence(ObjectId(f"bear-{number}"), clicks, ious) for number in range(objects))
    backbone = {"name": protocol.backbone}
    found = {"grabcut": DatasetResult("grabcut", evidence)}
    return Result(protocol, {"name": "mine"}, backbone, found, training=({"epoch": 0},))


def line_of(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_every_table_is_complete_and_cited() -> None:
    tables = quoted_tables()
    assert {(table.metric, table.protocol) for table in tables} == {
        ("noc90", "paper"),
        ("noc90", "paper-early"),
        ("iou_at_1", "paper-early"),
    }
    for table in tables:
        assert table.metric in METRICS
        assert table.protocol in PRESETS
        assert "arXiv 250" in table.citation
        assert set(table.datasets) <= set(PRESETS[table.protocol].test_datasets)
        assert set(table.rows) == {"identity", "bilinear", "LiFT", "FeatUp-JBU", "LoftUp"}
        limits = (1, 20) if table.metric == "noc90" else (0, 100)
        for scores in table.rows.values():
            assert len(scores) == len(table.datasets)
            assert all(limits[0] <= score <= limits[1] for score in scores)


def test_a_paper_run_stands_above_the_quoted_rows_of_its_protocol() -> None:
    text = beside_quoted([measured(Protocol.preset("paper"))])
    assert "SimpleViT, late injection" in text
    assert "patch embedding" not in text
    assert line_of(text, "mine (measured") == ["mine", "(measured,", "seed", "0)", "late", "4.00", "–", "–", "–"]
    loftup = line_of(text, "LoftUp (quoted")
    assert loftup == ["LoftUp", "(quoted,", "second-hand)", "late", "3.76", "5.42", "10.14", "9.79"]
    assert line_of(text, "quoted, second-hand: from")[-3:] == ["not", "measured", "here"]
    assert "arXiv 2505.02075" in text
    assert "second-hand" in text
    assert "not comparable" not in text


def test_iou_is_shown_in_percent() -> None:
    text = beside_quoted([measured(Protocol.preset("paper-early"))])
    assert "65.50" in text
    assert text.count("mine (measured") == 2


@pytest.mark.parametrize("changes", [{"disk_radius": 3.0}, {"backbone": "efficientnet_lite0"}, {"object_limit": 3}])
def test_a_run_under_another_protocol_is_marked(changes: dict[str, object]) -> None:
    text = beside_quoted([measured(Protocol.preset("paper").replace(**changes))])
    assert "mine (measured, seed 0) *" in text
    assert f"* not comparable: mine was measured with {next(iter(changes))}" in text


def test_seed_and_choice_of_test_sets_make_no_difference() -> None:
    result = measured(Protocol.preset("paper").replace(seed=3, test_datasets=("grabcut",)))
    assert differences(result, next(table for table in quoted_tables() if table.protocol == "paper")) == []


def test_uniform_drawing_of_training_images_is_told_but_compared() -> None:
    text = beside_quoted([measured(Protocol.preset("paper").replace(sample_weights="uniform"))])
    assert "mine was measured with sample_weights 'uniform' for 'ritm'" in text
    assert "not comparable" not in text


def test_a_pair_of_encoder_and_injection_that_no_paper_has_stands_beside_all_with_a_warning() -> None:
    text = beside_quoted([measured(Protocol.preset("reference"))])
    assert text.count("mine (measured, seed 0) *") == len(quoted_tables())


def test_only_tables_with_a_result_are_shown_and_each_result_in_its_own() -> None:
    text = beside_quoted([measured(Protocol.preset("paper")), measured(Protocol.preset("paper-early"))])
    assert text.count("mine (measured") == len(quoted_tables())


def test_the_channel_norm_counts_for_featup_alone() -> None:
    """The papers' FeatUp runs without the norm, whatever the preset says."""
    table = next(table for table in quoted_tables() if table.protocol == "paper")
    for with_norm in (True, False):
        result = measured(Protocol.preset("paper").replace(featup_channel_norm=with_norm))
        assert differences(result, table) == []
        featup = dataclasses.replace(result, upsampler={"name": "featup:dinov2", "source": {"kind": "featup"}})
        assert differences(featup, table) == (["featup_channel_norm True for False"] if with_norm else [])


def test_fewer_objects_and_an_unknown_training_are_not_comparable() -> None:
    few = measured(Protocol.preset("paper"), objects=10)
    assert "* not comparable: mine was measured with 10 of 50 objects of grabcut" in beside_quoted([few])
    elsewhere = dataclasses.replace(measured(Protocol.preset("paper")), training=())
    assert "* not comparable: mine was measured with an unknown training" in beside_quoted([elsewhere])
