"""The protocol: validation, serialisation, and a fingerprint that misses nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench import Benchmark
from vfm_isbench.errors import ProtocolError, UnknownNameError
from vfm_isbench.leaderboard.scores import METRICS
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.protocol.validation import RULES

FIELDS = [field.name for field in dataclasses.fields(Protocol)]
LABELS = {"name", "version", "seed", "test_datasets"}
"""Fields that do not tell protocols apart."""

OTHER_CHOICE: dict[str, Any] = {
    "position_embedding": "timm",
    "click_encoder": "patch_embedding",
    "injection": "early",
    "head": "linear",
    "granularity": "lora",
    "granularity_at_test": 0.5,
    "flip": "horizontal",
    "sample_weights": "uniform",
    "samples_per_epoch": 100,
    "object_limit": 3,
    "adam_betas": (0.8, 0.999),
    "schedule": "cosine",
    "milestones": (16,),
    "average_decay": 0.9,
    "clicker": "random",
    "resize_range": (0.5, 1.25),
    "contrast_limit": (-0.15, 0.3),
    "negative_shares": (0.2, 0.3, 0.5),
    "test_datasets": ("davis",),
}


def another_value(field: str) -> Any:
    """A valid value other than the paper's."""
    if field in OTHER_CHOICE:
        return OTHER_CHOICE[field]
    value = getattr(Protocol(), field)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.9 if isinstance(value, float) else value + "2"


def changes_of(field: str) -> dict[str, Any]:
    """Another value of a field, with what it needs."""
    needed: dict[str, Any] = {"milestones": ()} if field == "schedule" else {}
    needed |= {"granularity": "input"} if field == "granularity_at_test" else {}
    return {field: another_value(field), **needed}


paper = Protocol.preset("paper")


@pytest.mark.parametrize("field", FIELDS)
def test_the_fingerprint_covers_every_field_but_the_labels(field: str) -> None:
    changed = paper.replace(**changes_of(field))
    assert changed != paper
    assert (changed.fingerprint() != paper.fingerprint()) == (field not in LABELS)
    assert set(changed.changed_fields()) == (set() if field in LABELS else set(changes_of(field)))


def test_all_these_fingerprints_differ_from_one_another() -> None:
    changed = [paper.replace(**changes_of(field)) for field in FIELDS if field not in LABELS]
    assert len({protocol.fingerprint() for protocol in changed}) == len(changed)


@pytest.mark.parametrize("field", FIELDS)
def test_equal_protocols_have_equal_fingerprints(field: str) -> None:
    """A whole number given for a float, and a list for a tuple, mean the same."""
    value = another_value(field)
    changes = changes_of(field)
    changed = paper.replace(**{**changes, field: list(value) if isinstance(value, tuple) else value})
    assert changed == paper.replace(**changes)
    assert hash(changed) == hash(paper.replace(**changes))
    for whole, same in ((1, 1.0), (0, 0.0)):
        if isinstance(getattr(paper, field), float) and field not in (POSITIVE, BELOW_ONE)[whole]:
            assert paper.replace(**{field: whole}).fingerprint() == paper.replace(**{field: same}).fingerprint()
    shifted = paper.replace(resize_range=[1, 2], adam_betas=(0, 0.5))
    assert shifted.fingerprint() == paper.replace(resize_range=(1.0, 2.0), adam_betas=(0.0, 0.5)).fingerprint()


POSITIVE = {
    *("disk_radius", "lora_alpha", "learning_rate", "fine_tuning_rate", "adam_epsilon", "decay", "zoom_expansion")
}
BELOW_ONE = {"average_decay"}


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_field_survives_json(preset: str) -> None:
    for field in FIELDS:
        # Only the other schedule has milestones.
        changes = {"schedule": "milestones", **changes_of(field)} if field == "milestones" else changes_of(field)
        protocol = Protocol.preset(preset).replace(**changes)
        again = Protocol.from_dict(json.loads(json.dumps(protocol.to_dict())))
        assert again == protocol
        assert again.fingerprint() == protocol.fingerprint()


NEVER_VALID = [object(), math.nan, -1, "", "no such choice", (), (1,), {}, b"x"]
ALLOWED_THERE: dict[str, list[Any]] = {
    **{field: ["no such choice"] for field in ("name", "backbone", "train_dataset", "validation_dataset")},
    "milestones": [(), (1,)],
}


def test_every_field_has_a_rule() -> None:
    assert list(RULES) == FIELDS


@pytest.mark.parametrize("field", FIELDS)
def test_invalid_values_are_refused_by_the_name_of_their_field(field: str) -> None:
    for value in NEVER_VALID:
        if value in ALLOWED_THERE.get(field, []):
            continue
        with pytest.raises(ProtocolError, match=f"protocol field {field} is .*; expected"):
            paper.replace(**{field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("image_size", 224.0), ("image_size", True), ("image_size", 8), ("epochs", 0), ("batch_size", None),
    ("max_clicks", 0), ("object_limit", 0), ("samples_per_epoch", 0), ("flip_test", 1), ("zoom_in", None),
    ("flip_probability", 1.1), ("training_threshold", math.inf), ("learning_rate", 0), ("disk_radius", -5.0),
    ("adam_betas", (0.9, 1.0)), ("adam_betas", (0.9,)), ("resize_range", (1.2, 0.8)), ("resize_range", (0, 1)),
    ("contrast_limit", (0.4, -0.1)), ("contrast_limit", ("a", "b")), ("negative_shares", (0.5, 0.5, 0.5)),
    ("negative_shares", (-0.5, 0.5, 1.0)), ("milestones", ("17",)), ("milestones", (1.5,)), ("milestones", (-1,)),
    ("test_datasets", ()), ("test_datasets", ("davis", "davis")), ("test_datasets", "davis"), ("test_datasets", ("",)),
    ("version", 0), ("version", "1"), ("average_decay", 1), ("average_decay", -0.1), ("schedule", None),
    ("injection", "after_backbone"), ("rotate_limit", -1.0), ("loss_gamma", True),
])  # fmt: skip
def test_values_just_outside_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"protocol field {field} is "):
        paper.replace(**{field: value})


def test_an_unknown_field_gets_a_suggestion() -> None:
    with pytest.raises(ProtocolError, match="protocol field 'learning_rte'. Did you mean 'learning_rate'"):
        paper.replace(learning_rte=1e-3)


def test_missing_and_unknown_fields_of_a_file_are_refused() -> None:
    fields = paper.to_dict()
    with pytest.raises(ProtocolError, match="unknown protocol field 'colour'"):
        Protocol.from_dict({**fields, "colour": 1})
    del fields["zoom_in"], fields["epochs"]
    with pytest.raises(ProtocolError, match="lacks the fields epochs, zoom_in"):
        Protocol.from_dict(fields)


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper.epochs = 3  # type: ignore[misc]
    assert not hasattr(paper, "__dict__")


def test_every_field_is_documented() -> None:
    assert Protocol.__doc__ is not None
    missing = [field for field in FIELDS if f"\n        {field}: " not in Protocol.__doc__]
    assert missing == []


def test_the_sections_named_in_the_docstring_exist() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "protocol.md").read_text(encoding="utf-8")
    assert Protocol.__doc__ is not None
    named = set(re.findall(r"\((\d\.\d)\)", Protocol.__doc__))
    assert len(named) > 10
    assert named <= set(re.findall(r"^### (\d\.\d) ", page, re.MULTILINE))


def test_presets_carry_their_own_name_and_are_unchanged() -> None:
    for name, protocol in PRESETS.items():
        assert Protocol.preset(name) is protocol
        assert name in (protocol.name, protocol.label)
        assert Protocol.preset(f"{protocol.name}@{protocol.version}") is protocol
        assert protocol.changed_fields() == []
    assert len({protocol.fingerprint() for protocol in PRESETS.values()}) == len(PRESETS)


def test_the_presets_of_the_paper() -> None:
    assert (paper.click_encoder, paper.injection) == ("simple_vit", "late")
    early, reference = Protocol.preset("paper-early"), Protocol.preset("reference")
    assert (early.click_encoder, early.injection) == ("patch_embedding", "early")
    assert (reference.click_encoder, reference.injection) == ("simple_vit", "pre_upsampler")


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown protocol 'papr'. Did you mean 'paper'"):
        Protocol.preset("papr")


def test_the_fingerprints_of_the_presets_stay() -> None:
    """Results of earlier versions belong to them."""
    assert {name: protocol.fingerprint()[:12] for name, protocol in PRESETS.items()} == {
        "paper": "ec8bb4a08f67",
        "paper-early": "fbe81e25cf6d",
        "reference": "681a6fc185da",
        "quick": "28b7587619b7",
        "lite": "4af941d9cd4f",
        "demo": "48fbef4b7d94",
        "demo@1": "d995a32dccc5",
    }


def test_a_name_alone_is_the_newest_version() -> None:
    for name in {preset.name for preset in PRESETS.values()}:
        newest = max(preset.version for preset in PRESETS.values() if preset.name == name)
        assert Protocol.preset(name).version == newest
    assert Protocol.preset("demo").label == f"demo@{Protocol.preset('demo').version}" != "demo@1"
    assert (paper.label, paper.is_outdated) == ("paper", False)
    assert (Protocol.preset("demo@1").label, Protocol.preset("demo@1").is_outdated) == ("demo@1", True)
    assert not Protocol.preset("demo").is_outdated


@pytest.mark.parametrize("version", ["9", "0", "01", "", "new"])
def test_an_unknown_version_is_refused_with_those_that_exist(version: str) -> None:
    newest = Protocol.preset("demo").version
    known = ", ".join(f"demo@{number}" for number in range(1, newest + 1))
    with pytest.raises(UnknownNameError, match=f"'demo' has no version '{version}'. Known: {known}; 'demo' alone is"):
        Protocol.preset(f"demo@{version}")
    with pytest.raises(UnknownNameError, match="unknown protocol 'papr@1'"):
        Protocol.preset("papr@1")


def test_a_file_from_before_versions_is_unchanged_version_one() -> None:
    """Also now that the name alone means a newer version."""
    written = Protocol.preset("demo@1").to_dict()
    for field in ("version", "schedule", "average_decay"):
        del written[field]
    earlier = Protocol.from_dict(written)
    assert earlier == Protocol.preset("demo@1")
    assert earlier.changed_fields() == []
    assert earlier.signature().endswith("|proto:demo@1")
    assert Protocol.preset("demo").signature().endswith(f"|proto:{Protocol.preset('demo').label}")
    assert earlier.replace(disk_radius=7).signature().endswith("|proto:demo@1+changed")


def test_a_preset_has_a_headline_that_the_leaderboard_shows() -> None:
    assert {preset.headline for preset in PRESETS.values()} <= set(METRICS)
    assert paper.headline == Protocol.preset("demo@1").headline == "noc90"
    demo = Protocol.preset("demo")
    assert demo.replace(epochs=1, seed=3).headline == demo.headline
    assert demo.replace(name="mine").headline == "noc90"


def test_cosine_has_no_milestones() -> None:
    with pytest.raises(ProtocolError, match=r"field milestones is \(17,\); expected \(\), because .*'cosine'"):
        paper.replace(schedule="cosine")
    assert paper.replace(schedule="cosine", milestones=[]).milestones == ()


@pytest.mark.parametrize("name", ["patch_embedding", "of_a_plugin", "sam2.1-clicks"])
def test_a_click_encoder_need_not_be_installed_for_its_protocol_to_be_read(name: str) -> None:
    protocol = paper.replace(click_encoder=name)
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    assert f"|enc:{name}|" in protocol.signature()


@pytest.mark.parametrize("name", ["a|b", "<b>", "../up", "a b", "x.py", ""])
def test_the_name_of_a_click_encoder_is_a_plain_one(name: str) -> None:
    with pytest.raises(ProtocolError, match="protocol field click_encoder is .*; expected a name: letters, digits"):
        paper.replace(click_encoder=name)


def test_the_signature_tells_what_differs() -> None:
    changed = paper.replace(seed=3, epochs=1, head="linear", flip_test=False, max_clicks=5)
    assert changed.signature() == (
        "bb:dinov2_vits14|enc:simple_vit|inj:late|head:linear|px:224|clicks:ritm5|flip:no|seed:3|proto:paper@1+changed"
    )


@given(st.integers(0, 10**9))
def test_protocols_of_all_seeds_belong_together(seed: int) -> None:
    assert paper.replace(seed=seed).fingerprint() == paper.fingerprint()


@pytest.mark.parametrize(("field", "then", "other"), [
    ("featup_channel_norm", True, False), ("shuffled", False, True), ("schedule", "milestones", "cosine"),
    ("average_decay", 0.0, 0.9), ("pyramid_width", 128, 16), ("clicker", "center", "random"),
])  # fmt: skip
def test_results_written_before_a_field_was_added_stay_readable_and_comparable(
    field: str, then: Any, other: Any
) -> None:
    """The field gets the value that describes what earlier versions did, whatever its default is now."""
    paper = Protocol.preset("paper").replace(milestones=())
    now = paper.replace(**{field: then})
    earlier = {key: value for key, value in now.to_dict().items() if key != field}
    assert Protocol.from_dict(earlier) == now
    assert Protocol.from_dict(earlier).fingerprint() == now.fingerprint()
    assert paper.replace(**{field: other}).fingerprint() != now.fingerprint()


def test_the_demo_has_the_fingerprint_of_the_leaderboard() -> None:
    with Path(__file__).parents[2].joinpath("leaderboard.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"].startswith("demo@")]
    assert rows
    assert all(Protocol.preset(row["protocol"]).fingerprint() == row["fingerprint"] for row in rows)


def test_repr_is_one_line_with_what_was_changed() -> None:
    assert repr(Protocol.preset("demo")) == "<Protocol 'demo@2'>"
    assert repr(Protocol.preset("demo").replace(seed=1, epochs=2)) == "<Protocol 'demo@2', changed: epochs=2, seed=1>"
    assert repr(Protocol(name="mine", head="linear")) == "<Protocol 'mine', changed from 'paper': head='linear'>"
    many = repr(Protocol.preset("demo").replace(name="paper", version=1))
    assert many.startswith("<Protocol 'paper', changed: ") and re.search(r", and \d+ more fields>$", many)


@pytest.mark.parametrize("given", [{"epochs": 1}, None, 3])
def test_what_is_no_protocol_is_refused_with_what_to_give(given: object) -> None:
    with pytest.raises(ProtocolError, match=r"got .* of type \w+; to change fields: Protocol\.preset\('demo'\)"):
        Benchmark(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 10**6),
        ("max_clicks", 10**9),
        ("simple_vit_hidden", 10**9),
        ("batch_size", 10**9),
        ("seed", 2**64),
        ("epochs", 10**400),
        ("resize_range", (1.0, 1e9)),
        ("milestones", tuple(range(2000))),
        ("test_datasets", tuple(map(str, range(200)))),
        ("name", "x\x1b[2J"),
        ("name", "x" * 2000),
    ],
)
def test_values_that_would_use_up_the_machine_or_command_a_terminal_are_refused(field: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"protocol field {field} is .*; expected") as caught:
        Protocol.from_dict({**Protocol().to_dict(), field: value})
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
