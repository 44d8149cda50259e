"""Signatures: one line that names everything a score depends on."""

from __future__ import annotations

import dataclasses

from result_builder import PROTOCOL, made_dataset, made_result, random_ious, seeds_of

from vfm_isbench.protocol import Protocol
from vfm_isbench.results import score_signature

DATA = made_dataset(random_ious(0))


def test_a_score_is_named_with_protocol_version_and_hashes() -> None:
    result = made_result(DATA, seed=4)
    line = (
        "noc90|davis:40|bb:dinov2_vits14|enc:simple_vit|inj:late|head:conv2|px:224|clicks:ritm6|flip:yes|seed:4|"
        f"proto:paper@1+changed|up:abababababab|v:0.2.0|hash:{PROTOCOL.fingerprint()[:12]}|data:c0ffeec0ffee"
    )
    assert result.score_signature("davis", "noc90") == line
    assert score_signature([result], "davis", "noc90") == line


def test_seeds_are_named_together() -> None:
    line = score_signature(seeds_of("jbu", [0, 1, 2]), "davis", "noc90")
    assert "|seed:0,1,2|" in line
    assert line.count("v:0.2.0") == 1
    assert Protocol.preset("paper").signature([3, 5]).split("|")[-2] == "seed:3,5"


def test_what_parts_scores_shows() -> None:
    plain = made_result(DATA).score_signature("davis", "noc90")
    others = [
        made_result(DATA, protocol=PROTOCOL.replace(disk_radius=4)),
        made_result(made_dataset(random_ious(0), content="1" * 64)),
        made_result(made_dataset(random_ious(0)[:8])),
    ]
    assert all(other.score_signature("davis", "noc90") != plain for other in others)


def test_a_precision_other_than_float32_is_named() -> None:
    result = dataclasses.replace(made_result(DATA), speed={"precision": "bfloat16"})
    assert "|proto:paper@1+changed|prec:bfloat16|up:abababababab|v:0.2.0|" in result.score_signature("davis", "noc90")
    assert "|prec:bfloat16|" in result.signature()
    assert "prec:" not in dataclasses.replace(result, speed={"precision": "float32"}).signature()
    assert "prec:" not in made_result(DATA).signature()


def test_an_unknown_hash_is_said_to_be_unknown() -> None:
    result = made_result(made_dataset(random_ious(0), content=None))
    assert result.score_signature("davis", "noc90").endswith("|data:unknown")


def test_a_result_names_all_its_data_sets() -> None:
    result = made_result(DATA, made_dataset(random_ious(0)[:8], name="sbd", content="1" * 64))
    assert result.signature().startswith("davis:40,sbd:8|bb:")
    assert result.signature().endswith("|data:c0ffeec0ffee,111111111111")
