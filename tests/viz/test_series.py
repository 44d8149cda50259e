"""Series: which results they combine, their labels, and what must not be drawn together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from result_builder import NAN, result_of

from vfm_isbench.errors import IncomparableError, ResultError
from vfm_isbench.results import DatasetResult
from vfm_isbench.viz.series import choose_datasets, clicks_needed, group_by_seed, seeds_in_words, why_not_comparable

IOUS = {"scenes": [[0.5, 0.9], [0.2, 0.4]]}


def test_seeds_of_one_upsampler_make_one_series() -> None:
    results = [
        result_of("a", IOUS, seed=0),
        result_of("b", IOUS, seed=0, sha256="cd"),
        result_of("a", IOUS, seed=1),
    ]
    series = group_by_seed(results)
    assert [(one.label, [result.protocol.seed for result in one.results]) for one in series] == [
        ("a", [0, 1]),
        ("b", [0]),
    ]
    assert series[0].ious("scenes").shape == (2, 2, 2)
    assert seeds_in_words(series) == "training seeds: a 2, b 1"


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        (result_of("a", IOUS, seed=0), ["a (no. 1)", "a (no. 2)"]),
        (result_of("a", IOUS, seed=1, sha256="other"), ["a (seed 0)", "a (seed 1)"]),
        (result_of("a", IOUS, backbone="dinov2_vits14"), ["a (efficientnet_lite0@8)", "a (dinov2_vits14)"]),
    ],
)
def test_what_differs_stays_apart_and_is_told_apart(other, labels) -> None:
    assert [one.label for one in group_by_seed([result_of("a", IOUS, seed=0), other])] == labels


def test_protocols_of_one_name_are_told_apart_by_their_fingerprint() -> None:
    results = [result_of("a", IOUS), result_of("a", IOUS, disk_radius=3.0)]
    labels = [f"a (hash {result.fingerprint[:8]})" for result in results]
    assert [one.label for one in group_by_seed(results)] == labels


@pytest.mark.parametrize("change", [{"training": ({"epoch": 0},)}, {"speed": {"precision": "bfloat16"}}])
def test_unequal_training_or_precision_is_not_one_series(change) -> None:
    first = result_of("a", IOUS, seed=0)
    other = dataclasses.replace(result_of("a", IOUS, seed=1), **change)
    assert len(group_by_seed([first, other])) == 2
    assert len(group_by_seed([dataclasses.replace(first, **change), other])) == 1
    (sentence,) = why_not_comparable(group_by_seed([first, other]))
    assert "not trained alike" in sentence or "computed in float32 and bfloat16" in sentence


def test_the_label_of_a_protocol_keeps_nothing_apart() -> None:
    assert len(group_by_seed([result_of("a", IOUS, seed=0), result_of("a", IOUS, name="mine", seed=1)])) == 1


def test_names_are_shortened_and_made_printable() -> None:
    (one,) = group_by_seed([result_of("a\n\x00b" + "x" * 100, IOUS)])
    assert one.label.startswith("a b") and len(one.label) == 40 and "…" in one.label


@pytest.mark.parametrize("change", ["content", "objects"])
def test_different_data_under_one_name_are_refused(change: str) -> None:
    first = result_of("a", IOUS)
    if change == "content":
        second = result_of("b", IOUS, content="other")
    else:
        second = result_of("b", {"scenes": [*IOUS["scenes"], [0.1, 0.1]]})
    with pytest.raises(IncomparableError, match="a and b were measured on different objects or images"):
        choose_datasets(group_by_seed([first, second]))


def test_data_sets_are_those_of_all_or_those_named() -> None:
    series = group_by_seed([result_of("a", IOUS), result_of("b", {**IOUS, "davis": [[0.1, 0.2]]})])
    assert choose_datasets(series) == ["scenes", "davis"]
    assert choose_datasets(series, ["davis"]) == ["davis"]
    with pytest.raises(ResultError, match="no result has a data set 'sbd'; known: scenes, davis"):
        choose_datasets(series, ["sbd"])
    with pytest.raises(ResultError, match="at least one"):
        choose_datasets([])


def test_protocols_that_differ_are_named() -> None:
    same = [result_of("a", IOUS, seed=0), result_of("b", IOUS, seed=1, name="mine")]
    assert why_not_comparable(group_by_seed(same)) == []
    apart = [result_of("a", IOUS), result_of("b", IOUS, disk_radius=3.0, flip_test=True)]
    (sentence,) = why_not_comparable(group_by_seed(apart))
    assert sentence.startswith("Not comparable, a and b: the protocols differ")
    assert sentence.endswith("disk_radius 5.0 and 3.0; flip_test False and True.")


def test_evidence_of_an_evaluation_that_stopped_early() -> None:
    """As loaded from a file: shorter rows, padded to the protocol's cap."""
    whole = result_of("a", {"scenes": [[0.5, 0.9, 0.9], [0.9, 0.95, 0.95]]})
    objects = tuple(
        dataclasses.replace(one, clicks=one.clicks[:placed], ious=one.ious[:placed])
        for one, placed in zip(whole.datasets["scenes"].objects, (2, 1), strict=True)
    )
    stopped = DatasetResult("scenes", objects, content_sha256="content", stop_at_iou=(80, 90), click_cap=3)
    (series,) = group_by_seed([dataclasses.replace(whole, datasets={"scenes": stopped})])
    np.testing.assert_array_equal(series.ious("scenes"), [[[0.5, 0.9, NAN], [0.9, NAN, NAN]]])
    np.testing.assert_array_equal(series.clicks_needed("scenes", 90), [[2, 1]])
    np.testing.assert_array_equal(series.clicks_needed("scenes", 95), [[NAN, NAN]])


def test_clicks_needed_are_missing_where_an_object_was_stopped_before() -> None:
    ious = np.array([[0.5, 0.85, 0.9], [0.1, 0.2, 0.3], [0.86, NAN, NAN], [0.92, NAN, NAN]])
    np.testing.assert_array_equal(clicks_needed(ious, 0.9), [3, 3, NAN, 1])
    np.testing.assert_array_equal(clicks_needed(ious, 0.85), [2, 3, 1, 1])
