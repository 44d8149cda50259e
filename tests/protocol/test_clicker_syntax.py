"""The syntax of click patterns, and what a protocol says of them."""

from __future__ import annotations

import pytest

from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.clicker import Clicker

paper = Protocol.preset("paper")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("center", "ritm20"), ("random", "random20"), ("boundary", "boundary20"), ("clustered", "clustered20"),
        ("realistic", "realistic20"), ("jitter:2.5", "jitter(2.5)20"), ("worst_of:5", "worst_of(5)20"),
        ("best_of:2", "best_of(2)20"), ("realistic:clicks@0123456789ab", "realistic(clicks@0123456789ab)20"),
        ("mix:center=0.5,random=0.3,boundary=0.2", "mix(center=0.5,random=0.3,boundary=0.2)20"),
        ("mix:jitter:5=0.5,realistic=0.5", "mix(jitter:5=0.5,realistic=0.5)20"),
    ],
)  # fmt: skip
def test_every_pattern_has_a_fingerprint_and_a_place_in_the_signature(text: str, shown: str) -> None:
    protocol = paper.replace(clicker=text)
    assert f"|clicks:{shown}|" in protocol.signature()
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    assert (protocol.fingerprint() == paper.fingerprint()) == (text == "center")
    assert protocol.changed_fields() == ([] if text == "center" else ["clicker"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("centre", "no pattern of that name"), ("random:3", "random takes no value: write random"),
        ("jitter", "write jitter:5"), ("jitter:", "write jitter:5"), ("jitter:0", "pixels above 0"),
        ("jitter:-1", "pixels above 0"), ("jitter:5.0", "write jitter:5$"), ("jitter:05", "write jitter:5"),
        ("jitter:1e2", "write jitter:5"), ("jitter:nan", "write jitter:5"), ("jitter:1001", "up to 1000"),
        ("worst_of", "write worst_of:5"), ("worst_of:1", "from 2 to 50"), ("best_of:51", "from 2 to 50"),
        ("best_of:2.5", "write best_of:5"), ("worst_of:٥", "write worst_of:5"), ("realistic:", "path of a CSV file"),
        ("realistic:a|proto:paper@1", "without any of the characters"), ("realistic:a\nb", "path of a CSV file"),
        ("mix", "write mix:center=0.5"), ("mix:center=1", "between 0 and 1"), ("mix:center=0.5", "add up to 0.5"),
        ("mix:center=0.6,random=0.6", "add up to 1.2, not to 1"), ("mix:center=0.5,center=0.5", "names center twice"),
        ("mix:center=0.50,random=0.5", "write center=0.5"), ("mix:worst_of:5=0.5,center=0.5", "mix takes center"),
        ("mix:centre=0.5,random=0.5", "no pattern of that name"), ("mix:center=.5,random=.5", "write mix:"),
        (" random", "no pattern of that name"), (5, "must be text"), (None, "must be text"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_with_advice(text: object, why: str) -> None:
    with pytest.raises(ProtocolError, match=f"field clicker is .*; expected a click pattern: center, .*: .*{why}"):
        paper.replace(clicker=text)  # type: ignore[arg-type]


def test_a_pattern_is_read_into_its_parts() -> None:
    mixed = Clicker.parse("mix:center=0.25,jitter:2.5=0.75")
    assert mixed.parts == ((Clicker(name="center"), 0.25), (Clicker(name="jitter", sigma=2.5), 0.75))
    assert Clicker.parse("worst_of:7").candidates == 7
    assert [Clicker.parse(text).needs_trials for text in ("worst_of:2", "best_of:2", "random")] == [True, True, False]
