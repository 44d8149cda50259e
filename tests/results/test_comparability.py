"""Incomparable results give every reason; comparable ones give none."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_builder import PROTOCOL, made_dataset, made_result, random_ious

from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result
from vfm_isbench.results.comparability import unchecked, why_incomparable

IOUS = random_ious(0, objects=8)
PLAIN = made_result(made_dataset(IOUS))


@pytest.mark.parametrize("other", [
    PLAIN,
    made_result(made_dataset(IOUS / 2), name="jbu", sha256="1" * 64, seed=3),
    made_result(made_dataset(IOUS), protocol=PROTOCOL.replace(name="mine")),
    made_result(made_dataset(IOUS), made_dataset(IOUS, name="sbd", content="1" * 64)),
])  # fmt: skip
def test_upsampler_seed_label_and_further_data_sets_may_differ(other: Result) -> None:
    assert why_incomparable(PLAIN, other, "davis") == []
    assert unchecked(PLAIN, other, "davis") == []


def in_precision(name: str) -> Result:
    return dataclasses.replace(PLAIN, speed={"precision": name})


def test_precisions_are_held_against_each_other() -> None:
    assert why_incomparable(PLAIN, in_precision("bfloat16")) == ["computed in float32 and bfloat16"]
    assert why_incomparable(in_precision("bfloat16"), in_precision("float16")) == ["computed in bfloat16 and float16"]
    assert why_incomparable(PLAIN, in_precision("float32")) == []
    assert why_incomparable(in_precision("bfloat16"), in_precision("bfloat16")) == []


def reversed_objects() -> Result:
    found = PLAIN.datasets["davis"]
    return made_result(dataclasses.replace(found, objects=found.objects[::-1], content_sha256="1" * 64))


@pytest.mark.parametrize(("other", "reason"), [
    (made_result(made_dataset(IOUS), protocol=PROTOCOL.replace(disk_radius=4, flip="none")),
     r"protocols differ \(hash \w{12} and \w{12}\): disk_radius 5.0 and 4.0; flip any and none$"),
    (made_result(made_dataset(IOUS), protocol=PROTOCOL.replace(object_limit=8)), "object_limit None and 8"),
    (made_result(made_dataset(IOUS), backbone_sha256="e" * 64), "backbone differ .hash cdcdcdcdcdcd and eeeeeeeeeeee"),
    (made_result(made_dataset(IOUS), epochs=0), "not trained alike: 1 epoch and an unknown training"),
    (made_result(made_dataset(IOUS), epochs=3), "not trained alike: 1 epoch and 3 epochs"),
    (made_result(made_dataset(IOUS, name="sbd")), "davis: not in the second result"),
    (made_result(made_dataset(IOUS[:6])), r"davis: 2 of 8 objects only in the first result \(image0003:1, image0003:2"),
    (made_result(made_dataset(IOUS, per_image=1)), r"4 of 8 objects only in the first result \(image0000:2, .*, …\)"),
    (made_result(made_dataset(IOUS, content="1" * 64)), "the same ids, but other images, masks or order"),
    (reversed_objects(), "the same ids, but other images, masks or order"),
])  # fmt: skip
def test_what_differs_is_said_from_either_side(other: Result, reason: str) -> None:
    reasons = why_incomparable(PLAIN, other, "davis")
    assert any(re.search(reason, one) for one in reasons), reasons
    assert why_incomparable(other, PLAIN, "davis")


def test_all_reasons_are_given() -> None:
    other = made_result(
        made_dataset(IOUS[:4]), protocol=PROTOCOL.replace(disk_radius=4), backbone_sha256="e" * 64, epochs=2
    )
    assert len(why_incomparable(PLAIN, other, "davis")) == 4
    assert len(why_incomparable(PLAIN, other)) == 3


@given(st.sampled_from([field.name for field in dataclasses.fields(Protocol)]))
def test_every_field_of_the_fingerprint_parts_results(name: str) -> None:
    """Change each field in turn, to the value of another preset if one differs."""
    others = [getattr(Protocol.preset(preset), name) for preset in ("paper-early", "reference", "demo")]
    changed = [value for value in others if value != getattr(PROTOCOL, name)]
    if not changed or name in ("max_clicks", "test_datasets"):
        return
    fields = {name: changed[0]}
    if name == "schedule":
        fields["milestones"] = ()
    if name == "backbone":
        fields["image_size"] = 224
    other = made_result(made_dataset(IOUS), protocol=PROTOCOL.replace(**fields))
    reasons = why_incomparable(PLAIN, other, "davis")
    assert (reasons == []) == (name in ("name", "version", "seed"))
    assert all(name in reason for reason in reasons)


def test_a_missing_hash_is_a_remark() -> None:
    bare = made_result(made_dataset(IOUS, content=None), backbone_sha256=None, epochs=0)
    assert why_incomparable(bare, bare, "davis") == []
    remarks = unchecked(bare, bare, "davis")
    assert [bool(re.search(word, one)) for word, one in zip(("weights", "trained", "ids"), remarks, strict=True)] == [
        True
    ] * 3
    nameless = [made_result(made_dataset(IOUS), name=name, sha256=None) for name in ("one", "other")]
    assert ["each stands alone" in remark for remark in unchecked(*nameless, "davis")] == [True]
    assert unchecked(nameless[0], PLAIN, "davis") == []
    shorter = made_result(made_dataset(IOUS[:4], content=None), backbone_sha256=None, epochs=0)
    assert "4 of 8 objects" in why_incomparable(bare, shorter, "davis")[0]


def test_backbones_that_compute_other_features_part_results() -> None:
    """Also if their weights are equal: code and settings may differ."""
    mine, same, other = (
        dataclasses.replace(PLAIN, backbone={**PLAIN.backbone, "behaviour": behaviour})
        for behaviour in ([0.5, 1.0], [0.5, 1.00001], [0.5, 1.2])
    )
    assert why_incomparable(mine, same) == why_incomparable(mine, PLAIN) == []
    (reason,) = why_incomparable(mine, other)
    assert "backbones computed different features" in reason
