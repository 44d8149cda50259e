"""Two runs in one folder: the second is refused at once, whoever the first is and however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TINY

from vfm_isbench import Benchmark, Speed, evaluate_checkpoint
from vfm_isbench.errors import DataError, RunError
from vfm_isbench.runs.sole_use import sole_use, sole_writer

HANG = """
import multiprocessing, os, sys, time
from tiny import TINY
from vfm_isbench import Benchmark
from vfm_isbench.training import loop

def hang(*_, **__):
    print(os.getpid(), *[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    loop.predict_batch = hang
    Benchmark(TINY, device="cpu", output_dir=sys.argv[1], progress=False, workers=2).run("bilinear")
"""


@contextlib.contextmanager
def hanging_run(folder: Path, start_method: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run in another process that hangs in its training: the process, and the ids of its workers."""
    script = folder.parent / "hang.py"
    script.write_text(HANG)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), start_method], stdout=subprocess.PIPE, text=True
    )
    workers: list[int] = []
    try:
        assert process.stdout is not None
        _, *workers = map(int, process.stdout.readline().split())
        yield process, workers
    finally:
        for each in (process.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def too_late(*_: object, **__: object) -> None:
    pytest.fail("the refusal came too late")


@pytest.fixture
def nothing_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a run does as much as load its backbone."""
    monkeypatch.setattr(Benchmark, "_find_needs", too_late)


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_an_identical_run_is_refused_and_follows_at_once_after_a_kill(start_method, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    with hanging_run(folder, start_method) as (process, workers):
        assert len(workers) == 2
        before = sorted(folder.rglob("*"))
        with monkeypatch.context() as patch:
            patch.setattr(Benchmark, "_find_needs", too_late)
            for overwrite in (False, True):
                second = Benchmark(TINY, device="cpu", output_dir=folder, progress=False, overwrite=overwrite)
                with pytest.raises(RunError) as caught:
                    second.run("bilinear")
                assert f"the folder {folder} is in use by process {process.pid} on " in str(caught.value)
                assert "Wait until that has finished, or choose another with output_dir=" in str(caught.value)
        assert sorted(folder.rglob("*")) == before
        process.kill()
        process.wait()
        for worker in workers:
            os.kill(worker, 0)  # they outlive the process, and hold nothing
        with sole_use(folder):
            assert json.loads((folder / "run.lock").read_text())["pid"] == os.getpid()


def test_the_same_process_may_run_again_and_again(tmp_path):
    benchmark = Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False)
    first = benchmark.run("bilinear")
    trained = benchmark.train("bilinear")  # kept alive, as in a notebook
    again = Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False).run("bilinear")
    assert benchmark.evaluate(trained).datasets["scenes"].objects == first.datasets["scenes"].objects
    assert again.datasets["scenes"].objects == first.datasets["scenes"].objects
    assert not list(tmp_path.glob("*.lock*"))
    Benchmark(TINY.replace(seed=1), device="cpu", output_dir=tmp_path, progress=False, overwrite=True).train("bilinear")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match=r"no longer belongs to this training: another run has replaced it"):
        benchmark.evaluate(trained)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_two_threads_are_told_apart(tmp_path, nothing_expensive):
    told = []

    def second() -> None:
        try:
            Benchmark(TINY, device="cpu", output_dir=tmp_path, progress=False).train("bilinear")
        except RunError as error:
            told.append(str(error))

    with sole_use(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "is in use by this process, thread MainThread" in told[0]


def test_a_run_that_cannot_start_leaves_no_folder_and_no_lock(tmp_path):
    benchmark = Benchmark("paper", device="cpu", output_dir=tmp_path / "runs" / "mine", data_root=tmp_path / "none")
    with pytest.raises(DataError):
        benchmark.run("bilinear")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["result.json", "result-stop90.json"])
def test_an_evaluation_does_not_write_what_a_run_under_way_will_write(name, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    speed = Speed(stop_at_iou=(90,)) if "stop" in name else Speed()
    with sole_use(tmp_path), pytest.raises(RunError, match=f"the folder {tmp_path} is in use by this process"):
        evaluate_checkpoint(tmp_path, output=tmp_path / name, speed=speed)


def test_two_evaluations_do_not_write_the_same_file(tmp_path):
    output = tmp_path / "result-edited.json"
    (tmp_path / "run.json").write_text("{}")
    with sole_writer(output), pytest.raises(RunError, match=rf"{output} is in use by this process.*choose another"):
        evaluate_checkpoint(tmp_path / "model.pth", output=output)
    # A run that is under way is in nobody's way.
    with sole_use(tmp_path), pytest.raises(Exception, match="checkpoint.safetensors"):
        evaluate_checkpoint(tmp_path, output=output)
    assert not list(tmp_path.glob("*.lock"))


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), sole_use(tmp_path / "file" / "folder"):
        pass
