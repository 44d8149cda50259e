"""Whatever a file or an upsampler holds, it ends in an error of this library or a correct result: never in a bare
traceback, a hang, or without memory.

Valid inputs of every kind are changed at random. The normal run tries a few hundred; ``-m slow`` tries 2,000:
``python -m pytest -n0 -m slow tests/test_bad_inputs.py``. Both print what came of them.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_inputs import HOSTILE, bad_bytes, bad_json, bad_tensors, bad_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from result_builder import DEMO, seeds_of, synthetic_entry
from small import SMALL, small_probe
from small_archives import instances, mask, picture, small_files, write_files

from vfm_isbench.acceleration.feature_cache import FeatureCache
from vfm_isbench.baseline.recorded import load_baseline
from vfm_isbench.datasets.download.manifest import Manifest, manifest_path, read_manifest, write_manifest
from vfm_isbench.datasets.download.sources import Counts
from vfm_isbench.datasets.files import read_mask, read_plain_pickle, read_rgb
from vfm_isbench.datasets.sbd import SbdDataset
from vfm_isbench.datasets.single_object import GrabCutDataset
from vfm_isbench.errors import VfmIsbenchError
from vfm_isbench.isegprobe.checkpoint import is_reference, read_reference
from vfm_isbench.leaderboard.validation import check_file
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result, compare
from vfm_isbench.results.environment_difference import environment_key
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.runs.run_folder import RunFolder
from vfm_isbench.storage.partial_download import PartialDownload, Version
from vfm_isbench.storage.strict_json import parse_json
from vfm_isbench.storage.weights import read_state_dict
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.training import Checkpoint, EpochRecord, load_checkpoint, save_checkpoint
from vfm_isbench.training.checkpoint import capture
from vfm_isbench.types import ObjectId
from vfm_isbench.upsamplers import check_upsampler, load_upsampler

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the alarm clock of POSIX")

SECONDS = 30
"""Longer than this, an input counts as a hang."""
MEMORY = 3 * 2**30
"""Bytes of address space that reading an input may take."""

Attempt = Callable[[random.Random], None]
"""Makes a bad input, and uses it as a user would."""


class Kinds:
    """The kinds of inputs, each made once from valid files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        self._attempts: dict[str, Attempt] = {name: getattr(self, name)(self._place(name)) for name in names}

    def _place(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def result(self, place: Path) -> Attempt:
        good = seeds_of("mine", (0,))[0]
        content, path = good.to_dict(), place / "result.json"

        def attempt(rng: random.Random) -> None:
            path.write_bytes(
                bad_json(content, rng) if rng.randrange(5) else bad_bytes(json.dumps(content).encode(), rng)
            )
            loaded = Result.load(path)
            assert Result.from_dict(loaded.to_dict()).to_dict() == loaded.to_dict()
            for text in (str(loaded), repr(loaded), loaded._repr_html_(), loaded.signature()):
                assert "\x1b" not in text and "\x07" not in text
            loaded.to_frame()
            str(compare(good, loaded))
            if loaded.environment.keys() >= good.environment.keys():
                environment_key({"cpu_capability": "", "torch": "", **loaded.environment})

        return attempt

    def entry(self, place: Path) -> Attempt:
        path = synthetic_entry(seeds=(0,), protocol=DEMO.replace(object_limit=5)).save(place)
        packed = path.read_bytes()
        content = json.loads(gzip.decompress(packed))

        def attempt(rng: random.Random) -> None:
            path.write_bytes(gzip.compress(bad_json(content, rng)) if rng.randrange(5) else bad_bytes(packed, rng))
            checked = check_file(path)
            assert all(str(finding).isprintable() for finding in checked.findings)
            if checked.findings:
                raise VfmIsbenchError("\n".join(map(str, checked.findings)))
            assert checked.entry is not None

        return attempt

    def checkpoint(self, place: Path) -> Attempt:
        probe = small_probe()
        optimizer = torch.optim.Adam(probe.trainable().parameters())
        probe(torch.rand(1, 3, 28, 28), torch.rand(1, 3, 28, 28)).mean().backward()
        optimizer.step()
        tensors = capture(probe.trainable(), optimizer)
        history = (EpochRecord(0, 0.5, 0.25, None, 1.5),)
        path = place / "checkpoint.safetensors"
        save_checkpoint(path, Checkpoint(SMALL, {"name": "bilinear", "sha256": None}, history, tensors, {"a": [1]}))
        content = path.read_bytes()

        def attempt(rng: random.Random) -> None:
            path.write_bytes(bad_tensors(content, rng, "vfm_isbench"))
            assert not is_reference(path)
            loaded = load_checkpoint(path)
            assert isinstance(loaded.upsampler, dict) and isinstance(loaded.extra, dict)
            loaded.restore(probe.trainable(), optimizer)

        return attempt

    def weights(self, place: Path) -> Attempt:
        torch.save({"a": torch.zeros(3, 4), "b": torch.ones(5)}, place / "weights.pth")
        content = (place / "weights.pth").read_bytes()
        model = {"class": "core.model.iseg_probe_model.iSegProbeModel", "params": {}}
        torch.save({"state_dict": {"head.a": torch.zeros(2)}, "config": model}, place / "model.pth")
        reference = (place / "model.pth").read_bytes()

        def attempt(rng: random.Random) -> None:
            if rng.randrange(2):
                (place / "weights.pth").write_bytes(bad_bytes(content, rng))
                assert all(isinstance(value, torch.Tensor) for value in read_state_dict(place / "weights.pth").values())
            else:
                (place / "model.pth").write_bytes(bad_bytes(reference, rng))
                read_reference(place / "model.pth")

        return attempt

    def instances(self, place: Path) -> Attempt:
        return self._sbd(place, place / "SBD/inst/2008_000004.mat", lambda rng: bad_bytes(instances(), rng))

    def split(self, place: Path) -> Attempt:
        return self._sbd(place, place / "SBD/val.txt", lambda rng: bad_text(b"2008_000004\n2008_000003\n", rng))

    @staticmethod
    def _sbd(place: Path, path: Path, make: Callable[[random.Random], bytes]) -> Attempt:
        files = {
            name.replace("benchmark_RELEASE/dataset", "SBD"): content for name, content in small_files("sbd").items()
        }
        write_files(place, files)

        def attempt(rng: random.Random) -> None:
            path.write_bytes(make(rng))
            dataset = SbdDataset(place / "SBD", "val")
            for object_id in dataset.objects:
                sample = dataset.read(object_id.image)
                assert sample.image.dtype == np.uint8 and sample.labels.shape == sample.image.shape[:2]
                assert (sample.object_mask(object_id.instance) == 1).any()

        return attempt

    def scores(self, place: Path) -> Attempt:
        import pickle

        content = pickle.dumps([(index, f"image{index}", 0.5) for index in range(20)])

        def attempt(rng: random.Random) -> None:
            (place / "scores.pkl").write_bytes(bad_bytes(content, rng))
            read_plain_pickle(place / "scores.pkl")

        return attempt

    def image(self, place: Path) -> Attempt:
        contents = {kind: picture(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")}

        def attempt(rng: random.Random) -> None:
            (place / "image").write_bytes(bad_bytes(contents[rng.choice(list(contents))], rng))
            image = read_rgb(place / "image")
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3

        return attempt

    def mask(self, place: Path) -> Attempt:
        files = {name: content for name, content in small_files("grabcut").items() if name.startswith("GrabCut")}
        write_files(place, files)
        path = next(place / name for name in files if name.endswith(".png"))

        def attempt(rng: random.Random) -> None:
            if rng.randrange(3):
                path.write_bytes(bad_bytes(mask(), rng))
            else:  # another size, other values, another mode
                size = (rng.choice((1, 40, 60, 61)), rng.choice((1, 40, 41, 60)))
                pixels = np.random.default_rng(rng.randrange(2**32)).choice([0, 1, 7, 128, 255], size).astype(np.uint8)
                stream = io.BytesIO()
                Image.fromarray(pixels).convert(rng.choice(("L", "P", "RGB", "LA", "1", "I", "F"))).save(stream, "TIFF")
                path.write_bytes(stream.getvalue())
            read_mask(path)
            dataset = GrabCutDataset(place / "GrabCut")
            for object_id in dataset.objects:
                assert set(np.unique(dataset.read(object_id.image).labels)) <= {-1, 0, 1}

        return attempt

    def protocol(self, _place: Path) -> Attempt:
        content = Protocol.preset("paper").to_dict()

        def attempt(rng: random.Random) -> None:
            protocol = Protocol.from_dict(dict(parse_json(bad_json(content, rng)).items()))
            assert len(protocol.fingerprint()) == 64 and protocol.image_size <= 4096
            protocol.signature([protocol.seed])

        def guarded(rng: random.Random) -> None:
            try:
                attempt(rng)
            except AttributeError as error:  # .items() of what is no object, which is this test's own call
                assert "items" in str(error)
                raise VfmIsbenchError(str(error)) from error

        return guarded

    def upsampler(self, _place: Path) -> Attempt:
        def attempt(rng: random.Random) -> None:
            found = load_upsampler(_wrong_upsampler(rng))
            check_upsampler(found, channels=4, grid=(2, 3), image_size=(8, 12), batch_size=2)

        return attempt

    def spec(self, place: Path) -> Attempt:
        sources = (
            "x = 3\n", "def f(:\n", "raise KeyError('x')\n", "class U:\n    def __init__(self, a): pass\n",
            "def u(features, image): return None\n", "def u():\n    raise OSError\n", "import nothing_of_it\n", "\0",
        )  # fmt: skip
        words = (
            "bilinear", "jbu", ":", "::", "@", "hub:", "hf:", "no.such.module:", "loftup:", "file.py", "u", "\0", "?",
            "&", "=", "[" * 3000, "../", "é", "\ud800", " ", "%00", "x" * 3000, "f", ".", "lift:", "featup:", "#",
        )  # fmt: skip

        def attempt(rng: random.Random) -> None:
            if rng.randrange(3):
                load_upsampler("".join(rng.choice(words) for _ in range(rng.randrange(1, 6))))
            else:
                path = place / f"made{rng.randrange(10**9)}.py"
                path.write_bytes(bad_bytes(rng.choice(sources).encode(), rng))
                load_upsampler(f"{path}:{rng.choice(('x', 'U', 'u', 'f', ''))}")

        return attempt

    def run_json(self, place: Path) -> Attempt:
        belongs = {
            "protocol": SMALL.to_dict(), "upsampler": {"name": "mine", "sha256": "a" * 64}, "precision": "float32",
            "protocol_revision": 1, "versions": {"torch": "2"}, "behaviour": {"upsampler": [1.0], "backbone": None},
        }  # fmt: skip
        RunFolder(place / "run", belongs)

        def attempt(rng: random.Random) -> None:
            (place / "run" / "run.json").write_bytes(bad_json(belongs, rng))
            RunFolder(place / "run", belongs)

        return attempt

    def evidence(self, place: Path) -> Attempt:
        objects = seeds_of("mine", (0,))[0].datasets["davis"].objects[:6]
        path = place / "davis.jsonl"
        path.unlink(missing_ok=True)
        store = EvidenceStore(path, "run")
        for item in objects:
            store.append(item, "image")
        content = path.read_bytes()
        truth = {item.object_id: item for item in objects}

        def attempt(rng: random.Random) -> None:
            if rng.randrange(2):
                path.write_bytes(bad_text(content, rng))
            else:
                head, *lines = content.splitlines()
                lines[rng.randrange(len(lines))] = bad_json(json.loads(rng.choice(lines)), rng)
                path.write_bytes(b"\n".join([head, *lines]))
            again = EvidenceStore(path, "run")
            assert all(again.done(object_id, "image") is None or isinstance(object_id, ObjectId) for object_id in truth)
            again.append(objects[0], "image")
            assert EvidenceStore(path, "run").done(objects[0].object_id, "image") == objects[0]

        return attempt

    def feature_cache(self, place: Path) -> Attempt:
        backbone = FakeBackbone().eval()
        image = torch.rand(1, 3, 28, 28)
        with torch.no_grad():
            truth = FeatureCache(place / "cache", backbone)(image)
        path = next(path for path in (place / "cache").rglob("*") if path.is_file())
        content = path.read_bytes()

        def attempt(rng: random.Random) -> None:
            path.write_bytes(bad_bytes(content, rng))
            with torch.no_grad():
                found = FeatureCache(place / "cache", backbone)(image)
            assert found.shape == truth.shape
            assert torch.equal(found, truth)

        return attempt

    def baseline(self, place: Path) -> Attempt:
        first, second = seeds_of("mine", (0, 1))
        first.save(place / "seed0.json")
        content = {"baseline": {"upsampler": "bilinear"}, **second.to_dict()}

        def attempt(rng: random.Random) -> None:
            (place / "seed1.json").write_bytes(bad_json(content, rng))
            found = load_baseline([place])
            assert [recorded.seed for recorded in found] == sorted(recorded.seed for recorded in found)

        return attempt

    def download(self, place: Path) -> Attempt:
        record = Manifest(
            urls=("https://example.org/a",), sha256="a" * 64, size=10, date="2026-11-25", content_sha256="b" * 64,
            counts={"test": Counts(images=1, objects=1)},
        )  # fmt: skip
        manifest_path("davis", place).parent.mkdir()
        write_manifest("davis", place, record)
        partial = PartialDownload(place / "file", None)
        partial.start(Version("https://example.org/a", "x", 10))
        version_path = next(path for path in place.iterdir() if path.suffix == ".json")

        def attempt(rng: random.Random) -> None:
            manifest_path("davis", place).write_bytes(bad_json(json.loads(json.dumps(dataclasses.asdict(record))), rng))
            version_path.write_bytes(bad_json({"url": "https://example.org/a", "validator": "x", "total": 10}, rng))
            found = partial.resumable_version("https://example.org/a")
            assert found is None or isinstance(found.url, str)
            read_manifest("davis", place)

        return attempt


def _wrong_upsampler(rng: random.Random) -> Any:
    """Something that is not an upsampler, or hardly one."""
    bilinear = torch.nn.functional.interpolate
    outputs: tuple[Callable[[torch.Tensor, torch.Tensor], Any], ...] = (
        lambda features, image: None,
        lambda features, image: features.numpy(),
        lambda features, image: features[0],
        lambda features, image: (features, image),
        lambda features, image: image,
        lambda features, image: features.to(rng.choice((torch.int64, torch.bool, torch.complex64, torch.float64))),
        lambda features, image: features * float("nan"),
        lambda features, image: features / 0,
        lambda features, image: features[:, :, :0],
        lambda features, image: features.to_sparse(),
        lambda features, image: features.to("meta"),
        lambda features, image: [features],
        lambda features, image: {"features": features},
        lambda features, image: torch.rand(rng.randrange(1, 9), rng.randrange(1, 9), rng.randrange(1, 20), 12),
        lambda features, image: bilinear(features, image.shape[-2:]) + torch.rand(()),
        lambda features, image: bilinear(features, image.shape[-2:]),
        lambda features, image: features.zero_(),
        lambda features, image: rng.choice(HOSTILE),
        lambda features: features,
        lambda *anything: anything[rng.randrange(9)],
        lambda features, image, more: features,
    )
    chosen = rng.choice(outputs)
    kind = rng.randrange(4)
    if kind == 0:
        error = rng.choice((KeyError, ValueError, RuntimeError, MemoryError, RecursionError, StopIteration, SystemExit))

        def failing(features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            raise error("of the upsampler")

        return failing
    if kind == 1:
        return rng.choice((*HOSTILE, object(), torch.nn.Identity(), torch.nn.Linear(3, 3), len, int, torch.zeros(3)))
    return chosen


@contextmanager
def bounds() -> Iterator[None]:
    """An alarm, and a limit on the memory."""
    import resource

    def ring(*_: Any) -> None:
        raise TimeoutError(f"this took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    status = Path("/proc/self/statm")
    if status.is_file():
        now = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def outcome(attempt: Attempt, rng: random.Random) -> str:
    """Try an input; anything but an error of this library is raised."""
    with bounds(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            attempt(rng)
        except VfmIsbenchError as error:
            assert str(error)
            return "errors of ours"
    return "correct results"


KINDS = sorted(name for name in vars(Kinds) if not name.startswith("_"))
COUNTS: dict[str, Counter[str]] = {}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinds]:
    yield Kinds(tmp_path_factory.mktemp("bad"))


def try_out(kinds: Kinds, kind: str, number: int) -> Counter[str]:
    """So many bad inputs of a kind, always the same ones."""
    found: Counter[str] = Counter()

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(seed=st.integers(0, 2**64 - 1))
    def run(seed: int) -> None:
        found[outcome(kinds._attempts[kind], random.Random(seed))] += 1

    run()
    return found


def report(found: dict[str, Counter[str]], seconds: float) -> str:
    total = sum(found.values(), Counter())
    lines = [f"  {kind}: {dict(counts)}" for kind, counts in found.items()]
    return "\n".join(
        [
            f"\n{sum(total.values())} bad inputs in {seconds:.0f} s: {total['errors of ours']} errors of ours, "
            f"{total['correct results']} correct results, 0 others",
            *lines,
            "",
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_input_ends_in_an_error_of_ours_or_a_correct_result(kinds: Kinds, kind: str) -> None:
    assert sum(try_out(kinds, kind, 10).values()) >= 10


@pytest.mark.slow
def test_two_thousand_bad_inputs(kinds: Kinds, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    each = -(-2000 // len(KINDS))
    found = {kind: try_out(kinds, kind, each) for kind in KINDS}
    assert sum(sum(counts.values()) for counts in found.values()) >= 2000
    with capsys.disabled():
        sys.stdout.write(report(found, time.monotonic() - start))
