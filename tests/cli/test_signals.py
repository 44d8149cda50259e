"""Signals while the command line is at work: it keeps its work, says how to continue, and shows no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import TINY

from vfm_isbench import Benchmark, Result, cli
from vfm_isbench.evaluation import Lockstep
from vfm_isbench.protocol import PRESETS
from vfm_isbench.training import load_checkpoint
from vfm_isbench.training import loop as training_loop

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


@pytest.fixture(autouse=True)
def signals_as_usual() -> Iterator[None]:
    """In the background or under nohup, these tests would inherit signals that are ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    Benchmark(TINY, device="cpu", progress=False, output_dir=folder).run("bilinear")
    return folder


def signal_in_call(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int, signals: tuple[int, ...]
) -> None:
    """Send signals to this process in some call of a function, counted from 1."""
    original, calls = getattr(owner, name), []

    def signalled(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == number:
            for each in signals:
                signal.raise_signal(each)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, signalled)


def assert_same_run(folder: Path, expected: Path) -> None:
    one, other = (load_file(each / "checkpoint.safetensors") for each in (folder, expected))
    assert one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)
    results = [Result.load(each).datasets["scenes"].objects for each in (folder, expected)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("number", "call", "epochs", "steps"),
    [
        (signal.SIGTERM, 1, 0, 1),
        (signal.SIGHUP, 2, 0, 2),
        (signal.SIGTERM, 3, 0, 2),
        (signal.SIGINT, 3, 0, 2),
        (signal.SIGINT, 5, 1, 2),
    ],
    ids=["first step", "last step of an epoch", "validation", "validation, Ctrl+C", "second epoch, Ctrl+C"],
)
def test_a_training_stopped_by_a_signal_continues_in_the_middle_of_an_epoch(
    number: int,
    call: int,
    epochs: int,
    steps: int,
    tmp_path: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    command = ["run", "bilinear", "--protocol", "tiny", "--device", "cpu", "--quiet", "--output", str(tmp_path / "r")]
    with monkeypatch.context() as patch:
        signal_in_call(patch, training_loop, "predict_batch", call, (number,))
        assert cli.main(command) == SIGNALS[signal.Signals(number)]
    error = capsys.readouterr().err
    assert f"continue with:\n    vfm-isbench {' '.join(command)}\n" in error
    assert "Traceback" not in error
    kept = load_checkpoint(tmp_path / "r" / "checkpoint.safetensors")
    assert (len(kept.history), kept.unfinished.steps if kept.unfinished else 0) == (epochs, steps)
    assert cli.main(command) == 0
    assert_same_run(tmp_path / "r", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_stopped_by_a_signal_continues_with_the_next_object(
    number: int,
    tmp_path: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    command = ["run", "bilinear", "--protocol", "tiny", "--device", "cpu", "--quiet", "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        signal_in_call(patch, Lockstep, "_predict", TINY.max_clicks + 1, (number,))
        assert cli.main([*command, "--overwrite"]) == SIGNALS[signal.Signals(number)]
    assert f"vfm-isbench {' '.join(command)}\n" in capsys.readouterr().err  # overwriting would delete what is kept
    assert len((tmp_path / "evidence" / "scenes.jsonl").read_text().splitlines()) == 1 + 1
    assert cli.main(command) == 0
    assert_same_run(tmp_path, uninterrupted)


def test_minutes_between_checkpoints_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in a step, a run has lost only what came after the last checkpoint."""
    command = ["run", "bilinear", "--protocol", "tiny", "--device", "cpu", "--quiet", "--output", str(tmp_path)]

    def killed() -> None:
        raise SystemExit("killed")

    original, calls = training_loop.predict_batch, []

    def dies(*arguments: object, **options: object) -> object:
        calls.append(1)
        return killed() if len(calls) == 2 else original(*arguments, **options)

    monkeypatch.setattr(training_loop, "predict_batch", dies)
    assert cli.main([*command, "--checkpoint-minutes", "1e-6"]) == 2
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert kept.unfinished is not None and kept.unfinished.steps == 1
    assert cli.main([*command, "--checkpoint-minutes", "0"]) == 2


def run_in_own_group(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        start_new_session=True,
        check=False,
    )


STRIKE = """
import multiprocessing, os, signal, sys
from tiny import TINY
from vfm_isbench import cli
from vfm_isbench.protocol import PRESETS
from vfm_isbench.training import TrainingSamples
multiprocessing.set_start_method("fork")  # workers have the function below
PRESETS["tiny"] = TINY
original = TrainingSamples.__getitem__

def signalled(self, key):
    # In a worker, while the main process waits for the second batch.
    if key == (0, TINY.batch_size + 1):
        os.killpg(os.getpgrp(), int(sys.argv[1]))
    return original(self, key)

TrainingSamples.__getitem__ = signalled
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_outlive_a_signal_to_the_whole_group(number: int, tmp_path: Path, uninterrupted: Path) -> None:
    """As Ctrl+C in a terminal, Slurm and a closed terminal send it."""
    command = ["run", "bilinear", "--protocol", "tiny", "--device", "cpu", "--quiet", "--workers", "2"]
    command += ["--output", str(tmp_path)]
    stopped = run_in_own_group(STRIKE, str(int(number)), *command)
    assert stopped.returncode == SIGNALS[signal.Signals(number)], stopped.stderr
    assert stopped.stderr.count("finishing the current step") == 1  # workers say nothing
    assert "Traceback" not in stopped.stderr and "killed by signal" not in stopped.stderr
    unfinished = load_checkpoint(tmp_path / "checkpoint.safetensors").unfinished
    assert unfinished is not None and unfinished.steps in (1, 2)
    assert cli.main(command) == 0
    assert_same_run(tmp_path, uninterrupted)


def test_ctrl_c_during_imports_shows_no_traceback() -> None:
    code = """
import os, signal, sys, threading, time

def strike():
    while "torch" not in sys.modules:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
from vfm_isbench.cli import main
sys.exit(main(["list"]))
"""
    found = run_in_own_group(code)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "interrupted\n")


def test_a_script_that_is_terminated_says_what_is_kept_and_ends_with_the_code_of_the_signal(tmp_path: Path) -> None:
    code = STRIKE.replace(
        "sys.exit(cli.main(sys.argv[2:]))",
        "from vfm_isbench import evaluate\n"
        "evaluate('bilinear', TINY, device='cpu', progress=False, output_dir=sys.argv[2])",
    )
    found = run_in_own_group(code, str(int(signal.SIGTERM)), str(tmp_path))
    assert found.returncode == 143
    assert found.stderr.endswith(
        f"stopped by SIGTERM; the run so far is kept in {tmp_path}, and the same call continues it\n"
    )
