"""The room that a run is said to need is the room that it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small import SMALL, small_probe

from vfm_isbench.errors import RunError
from vfm_isbench.runs import room
from vfm_isbench.runs.evidence_store import EvidenceStore, bytes_per_object
from vfm_isbench.runs.room import check_room_for_evaluation, check_room_for_run, files_of_run
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import Checkpoint, EpochRecord, save_checkpoint
from vfm_isbench.training.checkpoint import capture
from vfm_isbench.types import Click, ObjectEvidence, ObjectId

RECORD = EpochRecord(0, 0.1, 0.5, 0.5, 1.0)


def checkpoint(epochs: int, decay: float = 0.0) -> Checkpoint:
    probe = small_probe()
    optimizer = torch.optim.Adam(probe.trainable().parameters())
    for parameter in probe.trainable().parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = capture(probe.trainable(), optimizer)
    if decay:
        tensors |= {
            f"unaveraged.{name}": value.clone().contiguous() for name, value in probe.trainable().state_dict().items()
        }
    return Checkpoint(SMALL.replace(average_decay=decay), {}, (RECORD,) * epochs, tensors)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_checkpoints_are_as_large_as_estimated(tmp_path: Path, decay: float) -> None:
    saved = checkpoint(3, decay)
    save_checkpoint(tmp_path / "checkpoint.safetensors", saved)
    size = (tmp_path / "checkpoint.safetensors").stat().st_size
    estimated = files_of_run(small_probe(), saved.protocol, 0)["the checkpoint"]
    assert size <= estimated <= size + 410_000


def test_evidence_is_as_large_as_estimated(tmp_path: Path) -> None:
    clicks = (Click(123, 45, True),) * 20
    store = EvidenceStore(tmp_path / "davis.jsonl", "weights")
    store.append(ObjectEvidence(ObjectId("2008_000123", 3), clicks, (0.1234567890123456,) * 20), "0" * 64)
    line = len((tmp_path / "davis.jsonl").read_bytes().split(b"\n")[1]) + 1
    assert line <= bytes_per_object(20) <= 1.2 * line


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, int]]]:
    found: list[tuple[Path, dict[str, int]]] = []
    monkeypatch.setattr(room, "check_room", lambda folder, files, _: found.append((folder, files)))
    return found


def test_a_run_needs_room_for_what_is_still_to_be_written(
    tmp_path: Path, asked: list[tuple[Path, dict[str, int]]]
) -> None:
    evidence = 100 * bytes_per_object(SMALL.max_clicks)
    dataset = FakeDataset(images=50)
    assert len(dataset.objects) == 100
    for start in (None, checkpoint(1), checkpoint(SMALL.epochs)):
        check_room_for_run(tmp_path, small_probe(), SMALL, [dataset], start)
    fresh, resumed, trained = (files for _, files in asked)
    assert {folder for folder, _ in asked} == {tmp_path}
    assert fresh["the checkpoint"] == fresh["the next one beside it"] and fresh["evidence"] == evidence
    assert [list(files) for files in (resumed, trained)] == [list(fresh)[1:], list(fresh)[2:]]
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "fake.jsonl").write_bytes(b"x" * 1000)
    check_room_for_run(tmp_path, small_probe(), SMALL.replace(object_limit=10), [dataset], None)
    assert asked[-1][1]["evidence"] == evidence // 10 - 1000
    check_room_for_run(tmp_path, small_probe(), SMALL, [], None)
    assert list(asked[-1][1]) == list(fresh)[:2], "a training alone"


def test_an_evaluation_names_what_it_writes(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"needed in .*gone \(.* for evidence, .* for the result\).*--output FILE"):
        check_room_for_evaluation(tmp_path / "gone" / "r.json", tmp_path / "none", SMALL, [FakeDataset()])


def test_a_protocol_with_more_clicks_needs_more() -> None:
    more = dataclasses.replace(SMALL, max_clicks=20)
    found = [files_of_run(small_probe(), protocol, 1000)["evidence"] for protocol in (SMALL, more)]
    assert found[0] < found[1]
