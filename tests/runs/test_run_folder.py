"""The folder of a run: which run it belongs to, and what is reused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL, small_probe

from vfm_isbench.errors import RunError, VfmIsbenchWarning
from vfm_isbench.runs.run_folder import RunFolder
from vfm_isbench.training import Checkpoint, EpochRecord
from vfm_isbench.training.checkpoint import capture
from vfm_isbench.types import Click, ObjectEvidence, ObjectId

MINE: dict[str, Any] = {
    "protocol": SMALL.to_dict(),
    "upsampler": {"name": "bilinear", "sha256": "ab"},
    "backbone_sha256": "cd",
}
OTHER: dict[str, Any] = {**MINE, "protocol": {**MINE["protocol"], "epochs": 7}, "backbone_sha256": "xy"}

FIRST = ObjectEvidence(ObjectId("bear"), (Click(1, 2, True), Click(3, 4, False)), (0.5, 0.75))
SECOND = ObjectEvidence(ObjectId("swan", 2), (Click(5, 6, True), Click(7, 8, True)), (0.1, 0.2))


def checkpoint() -> Checkpoint:
    probe = small_probe()
    optimizer = torch.optim.Adam(probe.trainable().parameters())
    return Checkpoint(
        SMALL, {"name": "bilinear"}, (EpochRecord(0, 0.5, 0.5, None, 1.0),), capture(probe.trainable(), optimizer)
    )


def filled(path: Path) -> RunFolder:
    folder = RunFolder(path, MINE)
    folder.save_checkpoint(checkpoint())
    store = folder.evidence("davis", "weights")
    store.append(FIRST, "bear's hash")
    store.append(SECOND, "swan's hash")
    folder.result_path().write_text("{}")
    return folder


def test_a_new_folder_is_empty(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "first", MINE)
    assert folder.load_checkpoint() is None
    assert folder.evidence("davis", "weights").done(FIRST.object_id, "bear's hash") is None


def test_the_same_run_finds_its_work_again(tmp_path: Path) -> None:
    filled(tmp_path)
    again = RunFolder(tmp_path, json.loads(json.dumps(MINE)))
    found = again.load_checkpoint()
    assert found is not None and found.protocol == SMALL and len(found.history) == 1
    store = again.evidence("davis", "weights")
    assert store.done(FIRST.object_id, "bear's hash") == FIRST
    assert store.done(SECOND.object_id, "swan's hash") == SECOND
    assert again.result_path().is_file()


def test_tuples_and_lists_are_the_same_run(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"protocol": {"milestones": (1, 2)}})
    RunFolder(tmp_path, {"protocol": {"milestones": [1, 2]}})


def test_another_run_is_refused_with_what_differs_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(RunError) as caught:
        RunFolder(tmp_path, OTHER)
    message = str(caught.value)
    assert "protocol.epochs: 3 there, 7 now" in message
    assert "backbone_sha256: 'cd' there, 'xy' now" in message
    assert "upsampler" not in message
    assert "--overwrite" in message and str(tmp_path) in message
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["result.json", "checkpoint.safetensors", "evidence/davis.jsonl"])
def test_files_of_an_unknown_run_are_not_deleted_unasked(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("somebody's")
    with pytest.raises(RunError, match=rf"{file.name} but no run\.json.*--overwrite"):
        RunFolder(tmp_path, MINE)
    assert file.read_text() == "somebody's"
    RunFolder(tmp_path, MINE, overwrite=True)
    assert not file.exists()


def test_overwriting_gives_the_work_up(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    folder = RunFolder(tmp_path, OTHER, overwrite=True)
    assert folder.load_checkpoint() is None
    assert folder.evidence("davis", "weights").done(FIRST.object_id, "bear's hash") is None
    assert not folder.result_path().exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    RunFolder(tmp_path, OTHER)
    with pytest.raises(RunError, match="another run"):
        RunFolder(tmp_path, MINE)


def test_overwriting_the_same_run_starts_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    assert RunFolder(tmp_path, MINE, overwrite=True).load_checkpoint() is None


def test_a_broken_manifest_is_an_error_unless_overwritten(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is broken"):
        RunFolder(tmp_path, MINE)
    RunFolder(tmp_path, MINE, overwrite=True)
    RunFolder(tmp_path, MINE)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file/folder cannot be written"):
        RunFolder(tmp_path / "file" / "folder", MINE)


def test_work_of_a_callable_whose_code_is_unknown_is_not_resumed(tmp_path: Path) -> None:
    unknown = {**MINE, "upsampler": {"name": "mine", "sha256": None}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = RunFolder(tmp_path, unknown)
    folder.save_checkpoint(checkpoint())
    with pytest.raises(RunError, match="no fingerprint.*--identity TEXT"):
        RunFolder(tmp_path, unknown)
    assert RunFolder(tmp_path, unknown, overwrite=True).load_checkpoint() is None


def test_another_revision_or_behaviour_is_another_run(tmp_path: Path) -> None:
    mine = {**MINE, "protocol_revision": 2, "behaviour": {"upsampler": [0.5, 0.25], "backbone": [1.0]}}
    RunFolder(tmp_path, mine)
    with pytest.raises(RunError, match="protocol_revision: 2 there, 3 now"):
        RunFolder(tmp_path, {**mine, "protocol_revision": 3})
    RunFolder(tmp_path, {**mine, "behaviour": {"upsampler": [0.5, 0.25001], "backbone": [1.0]}})
    for part, changed in (("upsampler", [0.5, 0.3]), ("backbone", [1.1])):
        with pytest.raises(RunError, match=f"what the {part} computes"):
            RunFolder(tmp_path, {**mine, "behaviour": {**mine["behaviour"], part: changed}})


def test_other_versions_continue_with_a_note(tmp_path: Path) -> None:
    RunFolder(tmp_path, {**MINE, "versions": {"torch": "2.4"}})
    with pytest.warns(VfmIsbenchWarning, match="torch 2.4 before, 2.5 now"):
        folder = RunFolder(tmp_path, {**MINE, "versions": {"torch": "2.5"}})
    assert "torch 2.4 before" in folder.notes[0]


def test_folders_without_versions_revision_and_behaviour_are_continued(tmp_path: Path) -> None:
    """As version 0.3 wrote them, under revision 1."""
    filled(tmp_path)
    now = {**MINE, "versions": {"torch": "2.5"}, "protocol_revision": 1, "behaviour": {"upsampler": [0.5]}}
    assert RunFolder(tmp_path, now).load_checkpoint() is not None
    with pytest.raises(RunError, match="protocol_revision: 1 there, 2 now"):
        RunFolder(tmp_path, {**now, "protocol_revision": 2})


def test_another_normalisation_of_the_input_is_another_run(tmp_path: Path) -> None:
    now = {**MINE, "backbone_input": {"mean": [0.5], "std": [0.5]}}
    RunFolder(tmp_path / "new", now)
    RunFolder(tmp_path / "new", now)
    with pytest.raises(RunError, match=r"backbone_input\.mean: \[0\.5\] there, \[0\.4\] now"):
        RunFolder(tmp_path / "new", {**MINE, "backbone_input": {"mean": [0.4], "std": [0.5]}})
    filled(tmp_path / "old")  # earlier versions did not write it
    assert RunFolder(tmp_path / "old", now).load_checkpoint() is not None


def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    filled(tmp_path)
    manifest = tmp_path / "run.json"
    content = json.loads(manifest.read_text())
    del content["protocol"]["featup_channel_norm"]
    manifest.write_text(json.dumps(content))
    assert RunFolder(tmp_path, MINE).load_checkpoint() is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "holds a list of 0; expected an object"),
        ('{"upsampler": null}', "says None in the field 'upsampler'; expected an object"),
        ('{"behaviour": {"upsampler": ["x"]}}', "other than lists of numbers"),
        ('{"protocol": {}, "protocol": {}}', "'protocol' twice"),
        ("[" * 20_000 + "]" * 20_000, "deeper than 32 levels"),
    ],
)
def test_a_hostile_manifest_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=rf"run\.json is broken: it .*({reason})"):
        RunFolder(tmp_path, {"upsampler": {"name": "mine"}})
