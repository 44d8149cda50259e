"""Evaluates thousands of small generated objects in one process, and measures what the process holds meanwhile.

A program, so that a test can start it in a process of its own. It prints a line per sample as JSON::

    python tests/support/soak.py FOLDER --objects 5000 --every 250
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from small import SMALL, evaluated, small_probe

from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.types import ObjectEvidence, ObjectId

INSTANCES = 2


class MeasuringStore:
    """Keeps evidence on disk as a run does, and measures the process every so many objects."""

    def __init__(self, store: EvidenceStore, every: int) -> None:
        self._store = store
        self._every = every
        self._count = 0
        self._began = time.monotonic()

    def done(self, object_id: ObjectId, image: str) -> ObjectEvidence | None:
        """See :class:`EvidenceStore`."""
        return self._store.done(object_id, image)

    def append(self, evidence: ObjectEvidence, image: str) -> None:
        """See :class:`EvidenceStore`."""
        self._store.append(evidence, image)
        self._count += 1
        if self._count % self._every == 0:
            print(json.dumps({"objects": self._count, **held(), "seconds": time.monotonic() - self._began}), flush=True)


def held() -> dict[str, float]:
    """Resident memory in MiB, open file descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }


def main() -> int:
    """Evaluate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--every", type=int, default=250)
    arguments = parser.parse_args()
    dataset = FakeDataset(images=-(-arguments.objects // INSTANCES), instances=INSTANCES, size=(32, 48))
    protocol = SMALL.replace(object_limit=arguments.objects)
    store = MeasuringStore(EvidenceStore(arguments.folder / "evidence.jsonl", "soak"), arguments.every)
    evidence, _ = evaluated(small_probe(protocol), dataset, protocol, store=store)
    return 0 if len(evidence) == arguments.objects else 1


if __name__ == "__main__":
    sys.exit(main())
