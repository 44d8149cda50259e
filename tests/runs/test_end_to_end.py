"""Runs that train upsampler and backbone: what they leave alone, what their results say, and evaluating them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from result_builder import synthetic_entry
from tiny import TINY
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench import Benchmark, Result, cli, evaluate_checkpoint
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import ContractError, RunError
from vfm_isbench.estimate import estimate as estimating
from vfm_isbench.estimate import memory
from vfm_isbench.estimate.amounts import amounts_of
from vfm_isbench.estimate.timing import time_training
from vfm_isbench.leaderboard.board import group_id
from vfm_isbench.leaderboard.trust import preset_of
from vfm_isbench.probe import build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.runs import load_trained
from vfm_isbench.runs.room import files_of_run
from vfm_isbench.storage.hashing import weights_sha256

END_TO_END = TINY.replace(train_upsampler=True, train_backbone=True, validation_samples=0, epochs=1, object_limit=1)
CODE = '''import torch
from torch.nn import functional


class Mixing(torch.nn.Module):
    """Bilinear upsampling, and a 1x1 convolution of the image on top."""

    def __init__(self, start: float = 0.01):
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 1, 1)
        torch.nn.init.constant_(self.mix.weight, start)
        torch.nn.init.zeros_(self.mix.bias)

    def forward(self, features, image):
        return functional.interpolate(features, image.shape[-2:], mode="bilinear") + self.mix(image)
'''


class Mixing(nn.Module):
    """The same, for the runs from Python."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.mix.weight, 0.01)
        nn.init.zeros_(self.mix.bias)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        return functional.interpolate(features, image.shape[-2:], mode="bilinear") + self.mix(image)


@dataclasses.dataclass(frozen=True)
class Run:
    folder: Path
    file: Path
    result: Result

    @property
    def spec(self) -> str:
        return f"{self.file}:Mixing"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    file = folder / "mine.py"
    file.write_text(CODE)
    benchmark = Benchmark(END_TO_END, device="cpu", output_dir=folder / "out", random_weights=True, progress=False)
    yield Run(folder / "out", file, benchmark.run(f"{file}:Mixing"))


def test_a_run_leaves_upsampler_and_backbone_as_they_were() -> None:
    """So a second run of the same benchmark starts where the first did."""
    benchmark, upsampler = Benchmark(END_TO_END, device="cpu", random_weights=True, progress=False), Mixing()
    before = weights_sha256(benchmark.backbone), weights_sha256(upsampler)
    probes = []
    for _ in range(2):
        probes.append(benchmark.train(upsampler).probe)
        assert (weights_sha256(benchmark.backbone), weights_sha256(upsampler)) == before
    assert weights_sha256(probes[0]) == weights_sha256(probes[1])
    trained_now = (probes[0].trainable()[part] for part in ("backbone", "upsampler"))
    assert all(weights_sha256(part) != start for part, start in zip(trained_now, before, strict=True))


def test_the_result_says_what_was_trained_and_where_it_started(run: Run) -> None:
    frozen = Benchmark(TINY, device="cpu", random_weights=True, progress=False)
    assert run.result.backbone["sha256"] == weights_sha256(frozen.backbone)
    start = load_trained(run.folder, upsampler=run.spec, device="cpu", random_weights=True)
    assert run.result.upsampler["sha256"] == start.upsampler.sha256 is not None
    assert "|train:upsampler+backbone|" in run.result.signature()
    (note,) = (note for note in run.result.notes if "frozen" in note)
    assert note.startswith("not the benchmark of frozen features: a copy of the upsampler and a copy of the backbone")
    assert "train" not in TINY.signature()


def test_eval_restores_what_was_trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.file.parent)  # where the file is found, unchanged
    again = evaluate_checkpoint(run.folder, device="cpu", random_weights=True, progress=False)
    assert again.datasets["scenes"].objects == run.result.datasets["scenes"].objects
    assert (again.backbone["sha256"], again.upsampler["sha256"]) == (
        run.result.backbone["sha256"],
        run.result.upsampler["sha256"],
    )


@pytest.mark.parametrize("other", ["bilinear", "mine.py:Mixing?start=0.5"])
def test_eval_refuses_another_upsampler(run: Run, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.file.parent)
    with pytest.raises(RunError, match=r"holds the weights of its own upsampler, '.*Mixing', .*--upsampler"):
        load_trained(run.folder, upsampler=other, device="cpu", random_weights=True)


def test_such_runs_are_neither_ranked_nor_compared_with_frozen_ones() -> None:
    paper = Protocol.preset("paper")
    changed = (paper.replace(train_upsampler=True), paper.replace(train_backbone=True))
    assert preset_of(paper) is not None
    assert all(preset_of(one) is None for one in changed)
    assert len({one.fingerprint() for one in (paper, *changed)}) == 3
    entry = synthetic_entry("bilinear")
    runs = [dataclasses.replace(one, protocol=one.protocol.replace(train_backbone=True)) for one in entry.runs]
    assert group_id(entry) != group_id(dataclasses.replace(entry, runs=tuple(runs)))
    assert any("train_backbone" in reason for reason in why_incomparable(entry.runs[0], runs[0]))


def test_bilinear_is_refused_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = Benchmark(END_TO_END, device="cpu", random_weights=True, progress=False)
    with pytest.raises(ContractError, match="holds no weights that could be trained"):
        benchmark.train("bilinear")
    with pytest.raises(ContractError, match="holds no weights that could be trained"):
        benchmark.estimate("bilinear")
    sizes = ["--image-size", "64", "--channels", "8", "--patch-size", "16"]
    assert cli.main(["check", "bilinear", *sizes, "--train-upsampler", "--device", "cpu"]) == 2
    assert "holds no weights that could be trained" in capsys.readouterr().err


def test_check_trains_on_trial(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--image-size", "64", "--channels", "8", "--patch-size", "16"]
    assert cli.main(["check", run.spec, *sizes, "--train-upsampler", "--train-backbone", "--device", "cpu"]) == 0
    assert "trained:           upsampler, backbone, with the probe" in capsys.readouterr().out


def test_the_run_folder_is_named_for_it() -> None:
    folder = cli.run.default_output("mine", Protocol.preset("demo").replace(train_backbone=True))
    assert folder.name == "mine-demo@2-train-backbone-seed0"


def test_memory_and_disk_count_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Benchmark(TINY, device="cpu", random_weights=True, progress=False).backbone
    training = amounts_of(TINY, None).training
    frozen, tuned = (build_probe(protocol, backbone, Mixing()) for protocol in (TINY, END_TO_END))
    layers = dict(tuned.backbone.named_parameters())
    used = [weight for name, weight in layers.items() if not name.startswith(("model.blocks.5", "model.blocks.6"))]
    weights = sum(weight.nbytes for weight in used)  # the last blocks lie behind the features
    assert weights > 1e6
    before = weights_sha256(tuned)
    needs = [
        memory.training_memory(probe, training, protocol, RunOptions())
        for probe, protocol in ((frozen, TINY), (tuned, END_TO_END))
    ]
    assert weights_sha256(tuned) == before
    assert needs[0] is not None and needs[1] is not None
    assert needs[1].of(1) - needs[0].of(1) > 3 * weights  # gradients, and Adam's two moments
    disk = [files_of_run(probe, TINY, 0)["the checkpoint"] for probe in (frozen, tuned)]
    assert disk[1] - disk[0] >= 3 * weights
    measured: list[Protocol] = []
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**40)
    monkeypatch.setattr(memory, "training_memory", lambda *given: measured.append(given[2]))
    for probe, protocol in ((frozen, TINY), (tuned, END_TO_END)):
        estimating.require_memory_to_train(probe, training, protocol, RunOptions())
    assert measured == [END_TO_END]
    time_training(tuned, training, END_TO_END, RunOptions(), validates=False, least=0.0)  # steps like the run's
    assert weights_sha256(tuned.backbone) != weights_sha256(backbone)
