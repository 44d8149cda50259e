"""How much room a run needs on disk, and whether it is there before hours of work begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.evidence_store import bytes_per_object
from vfm_isbench.storage.room import check_room
from vfm_isbench.training import Checkpoint

_HEADER = 400_000
"""More bytes than header and figures of an unfinished epoch take in a checkpoint, or a result without its evidence."""


def files_of_run(probe: Probe, protocol: Protocol, objects: int, *, boundary_iou: bool = False) -> dict[str, int]:
    """Bytes of the files that a whole run writes, by what they are.

    A checkpoint is written beside the last one before it replaces it, so there is room for two of them.

    Args:
        probe: The network; its trainable part is in the checkpoint, with the state of the optimiser.
        protocol: The protocol of the run.
        objects: Number of objects in all test sets.
        boundary_iou: Whether boundary IoU is measured too.
    """
    # Weights and Adam's two moments, and the weights again if they are averaged.
    copies = 4 if protocol.average_decay else 3
    checkpoint = copies * sum(value.nbytes for value in probe.trainable().state_dict().values()) + _HEADER
    files = {"the checkpoint": checkpoint, "the next one beside it": checkpoint}
    return {**files, **_files_of_evaluation(protocol, objects, boundary_iou=boundary_iou)} if objects else files


def check_room_for_run(
    folder: Path,
    probe: Probe,
    protocol: Protocol,
    tests: Sequence[ObjectDataset],
    start: Checkpoint | None,
    *,
    boundary_iou: bool = False,
) -> None:
    """Check that a run folder has room for what the run still has to write.

    Args:
        folder: The run folder.
        probe: The network.
        protocol: The protocol of the run.
        tests: The test sets, opened.
        start: The checkpoint that is there already.
        boundary_iou: Whether boundary IoU is measured too.

    Raises:
        RunError: if there is no room, or the folder cannot be written.
    """
    files = files_of_run(probe, protocol, _count(tests, protocol), boundary_iou=boundary_iou)
    if start is not None:
        del files["the checkpoint"]
        if start.is_complete:
            del files["the next one beside it"]
    _check(folder, folder / "evidence", files, "choose another folder, as output_dir=… (command line: --output DIR)")


def check_room_for_evaluation(
    output: Path, evidence: Path, protocol: Protocol, tests: Sequence[ObjectDataset], *, boundary_iou: bool = False
) -> None:
    """Check that there is room for what an evaluation still has to write.

    Args:
        output: The result file.
        evidence: Folder of its evidence, on the same disk.
        protocol: The protocol of the evaluation.
        tests: The test sets, opened.
        boundary_iou: Whether boundary IoU is measured too.

    Raises:
        RunError: if there is no room, or the folder cannot be written.
    """
    files = _files_of_evaluation(protocol, _count(tests, protocol), boundary_iou=boundary_iou)
    _check(output.parent, evidence, files, "choose another file, as output=… (command line: --output FILE)")


def _check(folder: Path, evidence: Path, files: dict[str, int], advice: str) -> None:
    if "evidence" in files:
        written = sum(file.stat().st_size for file in evidence.glob("*.jsonl"))
        files["evidence"] = max(0, files["evidence"] - written)
    check_room(folder, files, advice)


def _files_of_evaluation(protocol: Protocol, objects: int, *, boundary_iou: bool) -> dict[str, int]:
    n_bytes = objects * bytes_per_object(protocol.max_clicks, boundary_iou=boundary_iou)
    return {"evidence": n_bytes, "the result": n_bytes + _HEADER}


def _count(tests: Sequence[ObjectDataset], protocol: Protocol) -> int:
    return sum(len(test.objects[: protocol.object_limit]) for test in tests)
