"""Evidence on disk: nothing is lost, nothing of other weights, settings or images is reused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import SMALL, evaluated, small_probe

from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.results.dataset_result import evidence_to_dict
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.storage import atomic
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import Click, ObjectEvidence, ObjectId

FIRST = ObjectEvidence(ObjectId("bear"), (Click(1, 2, True), Click(3, 4, False)), (0.5, 0.75))
SECOND = ObjectEvidence(ObjectId("swan", 2), (Click(5, 6, True), Click(7, 8, True)), (0.1, 0.2))
THIRD = ObjectEvidence(ObjectId("elk"), FIRST.clicks, FIRST.ious)
ALL = (FIRST, SECOND, THIRD)


def filled(path: Path, *evidence: ObjectEvidence) -> Path:
    store = EvidenceStore(path / "davis.jsonl", "weights")
    for found in evidence or (FIRST, SECOND):
        store.append(found, "image")
    return store.path


def done(path: Path, belongs_to: str = "weights", image: str = "image") -> list[ObjectEvidence]:
    store = EvidenceStore(path, belongs_to)
    return [found for found in (store.done(evidence.object_id, image) for evidence in ALL) if found is not None]


def test_what_was_appended_is_found_again(tmp_path: Path) -> None:
    path = filled(tmp_path)
    assert done(path) == [FIRST, SECOND]
    EvidenceStore(path, "weights").append(THIRD, "image")
    assert done(path) == [FIRST, SECOND, THIRD]


def test_opening_a_store_writes_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    before = path.read_bytes()
    EvidenceStore(path, "weights")
    EvidenceStore(path, "other weights")
    EvidenceStore(tmp_path / "new.jsonl", "weights")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [1, 2, 10, 60])
def test_a_half_written_last_line_costs_that_object_at_most(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert done(path) == ([FIRST, SECOND] if cut == 1 else [FIRST])
    EvidenceStore(path, "weights").append(THIRD, "image")
    assert done(path) == ([FIRST, SECOND, THIRD] if cut == 1 else [FIRST, THIRD])


@pytest.mark.parametrize(
    "line",
    [b'{"image": "bear"}', b"3", b"\xff\xfe", b'{"image": "a", "instance": null, "clicks": [], "iou": []}', b"", b"{"],
)
def test_a_broken_line_costs_nothing_else(tmp_path: Path, line: bytes) -> None:
    path = filled(tmp_path)
    head, first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, first, line, second, b""]))
    assert done(path) == [FIRST, SECOND]


def test_a_failing_rewrite_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])  # without its last line break it must be rewritten

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        EvidenceStore(path, "weights").append(THIRD, "image")
    assert done(path) == [FIRST, SECOND]


def test_evidence_of_other_weights_is_dropped(tmp_path: Path) -> None:
    path = filled(tmp_path)
    assert done(path, "other weights") == []
    EvidenceStore(path, "other weights").append(SECOND, "image")
    assert done(path, "other weights") == [SECOND]
    assert done(path) == []


def test_evidence_of_another_image_is_done_again(tmp_path: Path) -> None:
    path = filled(tmp_path)
    assert done(path, image="another image") == []
    changed = ObjectEvidence(FIRST.object_id, FIRST.clicks, (0.25, 0.25))
    EvidenceStore(path, "weights").append(changed, "another image")
    assert done(path, image="another image") == [changed]
    assert done(path) == [SECOND]


@pytest.mark.parametrize("is_same_data", [True, False])
def test_evidence_of_version_0_3_is_used_if_the_data_are_the_same(tmp_path: Path, is_same_data: bool) -> None:
    """Its first line holds the hash of the whole data set, its lines none of their images."""
    dataset, path = FakeDataset(images=2), tmp_path / "davis.jsonl"
    whole, _ = evaluated(small_probe(), dataset, SMALL)
    content = content_sha256(dataset, dataset.objects)
    lines = [{"weights": f"weights {content}"}, *(evidence_to_dict(found) for found in whole[:3])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = EvidenceStore(path, "weights")
    assert store.unverified_content == content
    store.verify(content if is_same_data else "other data")
    again, times = evaluated(small_probe(), dataset, SMALL, store=store)
    assert again == whole
    assert times.clicks == SMALL.max_clicks * (1 if is_same_data else 4)
    resumed = EvidenceStore(path, "weights")
    assert resumed.unverified_content is None
    assert evaluated(small_probe(), dataset, SMALL, store=resumed)[1].clicks == 0
    changed = FakeDataset(images=2, seed=1)
    assert evaluated(small_probe(), changed, SMALL, store=EvidenceStore(path, "weights"))[1].clicks > 0


def test_evidence_of_version_0_3_under_other_weights_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "davis.jsonl"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in ({"weights": "other content"}, evidence_to_dict(FIRST)))
    )
    store = EvidenceStore(path, "weights")
    assert store.unverified_content is None and store.done(FIRST.object_id, "image") is None
