"""Evidence on disk: nothing is lost, nothing of other weights, settings or images is reused."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from small import SMALL, evaluated, small_probe
from small_disk import on_small_disk

from vfm_isbench.datasets.content import content_sha256
from vfm_isbench.errors import ResultError, WriteError
from vfm_isbench.results.evidence_json import evidence_to_dict
from vfm_isbench.runs import evidence_store
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.storage import atomic
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize

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


def test_boundary_ious_and_sizes_are_found_again(tmp_path: Path) -> None:
    more = ObjectEvidence(FIRST.object_id, FIRST.clicks, FIRST.ious, (0.25, 0.5), ObjectSize(7, 10, 20))
    path = filled(tmp_path, FIRST, SECOND)
    EvidenceStore(path, "weights").append(more, "image")
    assert done(path) == [more, SECOND], "the later line counts"
    usual, with_boundaries = (evidence_store.bytes_per_object(20, boundary_iou=asked) for asked in (False, True))
    assert with_boundaries - usual > 20 * 18


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


@pytest.mark.parametrize("mark", [b"\0", b"}", b"\n"])
def test_one_bad_byte_costs_one_object_at_most(tmp_path: Path, mark: bytes) -> None:
    """Wherever it is, in the first line or a line break too; and what is left is as it was written."""
    path = filled(tmp_path, *ALL)
    content = path.read_bytes()
    first_line = content.index(b"\n")
    for place in range(len(content)):
        path.write_bytes(content[:place] + mark + content[place + 1 :])
        found = done(path)
        assert len(found) >= (3 if place <= first_line else 2) and set(found) <= set(ALL), place
        store = EvidenceStore(path, "weights")
        for evidence in ALL:
            if store.done(evidence.object_id, "image") is None:
                store.append(evidence, "image")
        assert done(path) == list(ALL), place


def test_a_changed_digit_is_no_evidence(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"0.75", b"0.95"))
    assert done(path) == [SECOND]


def test_lines_without_a_line_break_between_them_are_both_read(tmp_path: Path) -> None:
    path = filled(tmp_path)
    head, first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(head + b"\n" + first + second)
    assert done(path) == [FIRST, SECOND]
    path.write_bytes(head + b"\n" + first[:40] + second)
    assert done(path) == [SECOND]


def test_evidence_of_version_0_4_is_used(tmp_path: Path) -> None:
    """Its lines have no check."""
    path = filled(tmp_path)
    path.write_bytes(re.sub(rb', "check": "\w+"', b"", path.read_bytes()))
    assert b"check" not in path.read_bytes() and done(path) == [FIRST, SECOND]
    EvidenceStore(path, "weights").append(THIRD, "image")
    assert done(path) == [FIRST, SECOND, THIRD]
    assert done(path, "other weights") == []


def test_a_line_is_only_appended(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for damaged in (path.read_bytes()[:-5], path.read_bytes().replace(b"swan", b"sw\xffn")):
        path.write_bytes(damaged)
        number = path.stat().st_ino
        EvidenceStore(path, "weights").append(THIRD, "image")
        assert path.read_bytes().startswith(damaged) and path.stat().st_ino == number
        assert done(path) == [FIRST, THIRD]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failing_rewrite_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)
    damaged = path.read_bytes().replace(b"belongs", b"bel0ngs")  # so the file must be written anew
    path.write_bytes(damaged)
    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(WriteError, match=r"davis\.jsonl cannot be written: No space left on device\. Free some space"):
        EvidenceStore(path, "weights").append(THIRD, "image")
    assert path.read_bytes() == damaged and list(tmp_path.iterdir()) == [path]
    assert done(path) == [FIRST, SECOND]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResultError, match=r"davis\.jsonl cannot be read: .* move it away"):
        EvidenceStore(path, "weights")


def test_the_disk_is_waited_for_at_intervals_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EvidenceStore(tmp_path / "davis.jsonl", "weights")
    store.append(FIRST, "image")
    calls: list[int] = []
    monkeypatch.setattr(evidence_store.os, "fsync", calls.append)
    store.append(SECOND, "image")
    assert not calls
    monkeypatch.setattr(evidence_store, "SYNC_SECONDS", 0)
    store.append(THIRD, "image")
    assert len(calls) == 1
    store.sync()
    assert len(calls) == 1, "all of it is there already"
    monkeypatch.setattr(evidence_store, "SYNC_SECONDS", 1000)
    store.append(SECOND, "image")
    store.sync()
    assert len(calls) == 2
    monkeypatch.setattr(evidence_store.os, "fsync", full)
    store.append(SECOND, "image")
    with pytest.raises(WriteError):
        store.sync()


MANY = """
import os, random, sys
from pathlib import Path
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize

def evidence(number):
    draws = random.Random(number)
    clicks = tuple(Click(draws.randrange(375), draws.randrange(500), True) for _ in range(20))
    return ObjectEvidence(ObjectId("image", number), clicks, tuple(draws.random() for _ in range(20)))
"""
OPEN_AND_APPEND = """
print(os.getpid(), flush=True)
store = EvidenceStore(Path(sys.argv[1]), "weights")
print("open", flush=True)
for number in range(int(sys.argv[2]), 10**9):
    store.append(evidence(number), "image")
    print(number, flush=True)
"""


def kill_while_it_opens_or_appends(python: list[str], path: Path, objects: int, trial: int, size: int) -> int:
    """Kill a process that opens the file and appends to it; returns the number of objects that it said it appended."""
    words = [*python, "-c", MANY + OPEN_AND_APPEND, str(path), str(objects)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        draws = random.Random(trial)
        if trial % 2:  # while it opens
            time.sleep(draws.random() * size * 2e-4)
        else:  # while it writes the file anew, or appends
            assert process.stdout.readline() == "open\n"
            time.sleep(draws.random() * size * 3e-5)
        os.kill(number, signal.SIGKILL)
        said = process.stdout.read().split()
    whole = [int(word) for word in said if word.isdigit()]
    return max(whole, default=objects - 1) - objects + 1


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX systems")
@pytest.mark.parametrize(
    ("size", "trials"), [(500, 4), pytest.param(50_000, 25, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_a_process_killed_while_it_opens_or_appends_loses_nothing(
    python: list[str], tmp_path: Path, size: int, trials: int
) -> None:
    """On 0.3.0, 20 of 25 trials lost evidence: opening wrote the file anew, in place."""
    space: dict[str, Any] = {}
    exec(MANY, space)
    path = tmp_path / "many.jsonl"
    store = EvidenceStore(path, "weights")
    for number in range(size):
        store.append(space["evidence"](number), "image")
    objects = size
    for trial in range(trials):
        content = path.read_bytes()
        damages = [content, content[:-1], content + b"\n" + content[-300:-100], content.replace(b"belongs", b"bel0ngs")]
        path.write_bytes(damages[trial % 4])
        objects += kill_while_it_opens_or_appends(python, path, objects, trial, size)
        atomic.remove_left_over(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        found = EvidenceStore(path, "weights")
        for number in range(objects):
            expected = space["evidence"](number)
            assert found.done(expected.object_id, "image") == expected, (trial, number)
        while found.done(ObjectId("image", objects), "image"):  # written, and killed before it said so
            objects += 1


FULL_DISK = """
from pathlib import Path
from small_disk import fill
from test_evidence_store import FIRST, SECOND, THIRD, done
from vfm_isbench.errors import WriteError
from vfm_isbench.runs.evidence_store import EvidenceStore

path = DISK / "davis.jsonl"
store = EvidenceStore(path, "weights")
store.append(FIRST, "image")
for damage in (b"", b"half a line", b"bel0ngs"):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"belongs", damage) if damage == b"bel0ngs" else content + damage)
    before, filler = path.read_bytes(), DISK / "filler"
    fill(filler)
    opened = EvidenceStore(path, "weights")
    try:
        for _ in range(100):  # the last block of the file has room for some lines
            opened.append(SECOND, "image")
        raise AssertionError("the disk is not full")
    except WriteError as error:
        print(error)
    assert path.read_bytes().startswith(before)
    assert FIRST in done(path)
    filler.unlink()
    opened.append(THIRD, "image")
    assert {FIRST, THIRD} <= set(done(path))
    assert sorted(file.name for file in DISK.iterdir()) == ["davis.jsonl"]
"""


def test_a_full_disk_costs_nothing(tmp_path: Path) -> None:
    tests = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path\n"
    said = on_small_disk(tmp_path, 0.25, f"{tests}DISK = Path({str(tmp_path)!r})\n{FULL_DISK}")
    assert said.count("davis.jsonl cannot be written: No space left on device. Free some space there") == 3


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are of POSIX systems")
def test_a_limit_on_the_size_of_files_costs_nothing(python: list[str], tmp_path: Path) -> None:
    path = filled(tmp_path)
    limit = path.stat().st_size + 50
    code = f"""
import resource, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1] / "support")!r}]
from test_evidence_store import *
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
EvidenceStore(Path({str(path)!r}), "weights").append(THIRD, "image")
"""
    ended = subprocess.run([*python, "-c", code], capture_output=True, text=True, check=False)
    assert "WriteError: the evidence file" in ended.stderr and "File too large" in ended.stderr
    assert path.stat().st_size == limit, "half a line was written"
    assert done(path) == [FIRST, SECOND]
    EvidenceStore(path, "weights").append(THIRD, "image")
    assert done(path) == [FIRST, SECOND, THIRD]


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
