"""What the speed programs measure: upsamplers and injections, objects, and the slow and the fast way."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import timm
import torch
from timing import machine, machine_line
from upsamplers import LEARNED

from vfm_isbench import Protocol, Speed
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.backbones import Backbone, load_backbone
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.datasets import ObjectDataset, open_dataset
from vfm_isbench.evaluation import EvaluationTimes, evaluate_dataset
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.probe.preparation import choose_device
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import Batch, collate
from vfm_isbench.types import AnnotatedImage, ObjectEvidence, ObjectId
from vfm_isbench.upsamplers import load_upsampler

WAYS = ("slow", "fast")
"""Slow runs the whole probe for every click; fast is the library's default."""

SPEEDS = {"slow": Speed(shortcut=False), "fast": Speed()}
"""The speed settings of each way, for evaluation and training."""

TEST_DATASETS = {"grabcut": "GrabCut", "berkeley": "Berkeley", "davis": "DAVIS", "sbd": "SBD"}
"""Folders in a data root, in the order in which their objects are used."""

_ENCODERS = {"late": "simple_vit", "early": "patch_embedding", "pre_upsampler": "simple_vit"}
_DEFAULT_BACKBONE = "timm:vit_small_patch14_dinov2"
_FAKE = "fake"


@dataclass(frozen=True)
class Case:
    """An upsampler with random weights, and where click tokens are added."""

    upsampler: str
    injection: Injection

    def __str__(self) -> str:
        return f"{self.upsampler} {self.injection}"


def parse_case(text: str) -> Case:
    """Read a case such as ``loftup:late`` from the command line."""
    upsampler, _, injection = text.partition(":")
    if injection not in get_args(Injection):
        raise argparse.ArgumentTypeError(f"{text!r}: expected UPSAMPLER:INJECTION, as in loftup:late")
    return Case(upsampler, injection)  # type: ignore[arg-type]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all programs."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--backbone", default=_DEFAULT_BACKBONE, help="any timm backbone, with random weights, or 'fake', a tiny one"
    )
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--rounds", type=int, default=5, help="each value is a median over this many rounds")
    made.add_argument("--device", default="auto")
    made.add_argument(
        "--data-root", type=Path, help="folder with GrabCut/, Berkeley/, … (default: the embedded scenes)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all measured values to this file")
    return made


def started(options: argparse.Namespace) -> tuple[torch.device, dict[str, Any]]:
    """Choose the device and start the results with machine and options, which are also printed."""
    device = choose_device(options.device)
    found = machine(device)
    print(machine_line(found))
    data = "photographs" if options.data_root else "embedded scenes"
    print(f"{options.backbone}, {options.image_size} px, {data}, {options.rounds} rounds, float32\n", flush=True)
    return device, {"machine": found, "options": {key: _plain(value) for key, value in vars(options).items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def finish(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the results if ``--json`` was given."""
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.json, json.dumps(results, indent=1) + "\n")


def backbone_of(name: str, image_size: int, channels: int | None = None) -> Backbone:
    """A backbone with random weights, optionally with another number of channels."""
    if name == _FAKE:
        return FakeBackbone(channels or 8)
    if channels is None:
        return load_backbone(name, image_size, pretrained=False)
    model = timm.create_model(
        name.removeprefix("timm:"), pretrained=False, num_classes=0, global_pool="", img_size=image_size,
        embed_dim=channels, num_heads=max(channels // 64, 1),
    )  # fmt: skip
    return ViTBackbone(f"{name}, {channels} channels", model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])


def protocol_of(case: Case, options: argparse.Namespace, **changes: Any) -> Protocol:
    """The paper's protocol with the case's injection and the click encoder that belongs to it."""
    small = {"zoom_min_size": 20, "min_object_area": 10} if options.backbone == _FAKE else {}
    settings = {
        "backbone": options.backbone,
        "image_size": options.image_size,
        "injection": case.injection,
        "click_encoder": _ENCODERS[case.injection],
    }
    return Protocol.preset("paper").replace(**(settings | small | changes))


def probe_of(case: Case, protocol: Protocol, device: torch.device, channels: int | None = None) -> Probe:
    """A probe with random but always the same weights, in eval mode."""
    torch.manual_seed(0)
    backbone = backbone_of(protocol.backbone, protocol.image_size, channels)
    learned = LEARNED.get(case.upsampler)
    upsampler = load_upsampler(case.upsampler) if learned is None else learned(backbone.channels)
    return build_probe(protocol, backbone, upsampler).to(device).eval()


class SomeObjects(ObjectDataset):
    """Some objects of a data set in their order, repeated if there are too few."""

    def __init__(self, dataset: ObjectDataset, first: int, count: int) -> None:
        self.name = dataset.name
        self._dataset = dataset
        every = dataset.objects
        self.objects: Sequence[ObjectId] = [every[(first + index) % len(every)] for index in range(count)]

    @property
    def image_ids(self) -> Sequence[str]:
        """Images of these objects."""
        return list(dict.fromkeys(object_.image for object_ in self.objects))

    def read(self, image_id: str) -> AnnotatedImage:
        """See :meth:`ObjectDataset.read`."""
        return self._dataset.read(image_id)


def evaluation_datasets(options: argparse.Namespace, protocol: Protocol) -> list[ObjectDataset]:
    """The test sets in the data root, or the embedded scenes if no data root is given.

    Raises:
        SystemExit: if the data root contains none of them.
    """
    if options.data_root is None:
        return [open_dataset("scenes", "test", None, protocol)]
    present = [name for name, folder in TEST_DATASETS.items() if (options.data_root / folder).is_dir()]
    if not present:
        raise SystemExit(f"{options.data_root} contains none of {', '.join(TEST_DATASETS.values())}")
    return [open_dataset(name, "test", options.data_root, protocol) for name in present]


def training_samples(options: argparse.Namespace, protocol: Protocol) -> TrainingSamples:
    """Samples of SBD if it is in the data root, otherwise of the embedded scenes."""
    has_sbd = options.data_root is not None and (options.data_root / TEST_DATASETS["sbd"]).is_dir()
    dataset = open_dataset("sbd" if has_sbd else "scenes", "train", options.data_root, protocol)
    return TrainingSamples(dataset, protocol)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation: its evidence, the times the library took, and the seconds of the whole call."""

    evidence: Sequence[ObjectEvidence]
    times: EvaluationTimes
    seconds: float

    @property
    def per_click(self) -> float:
        """Seconds per click placed."""
        return self.seconds / self.times.clicks


def evaluated(probe: Probe, dataset: ObjectDataset, protocol: Protocol, speed: Speed) -> Evaluated:
    """Evaluate a data set, including reading it."""
    start = time.perf_counter()
    evaluation = evaluate_dataset(probe, dataset, protocol, options=RunOptions(speed=speed, progress=False))
    return Evaluated(evaluation.evidence, evaluation.times, time.perf_counter() - start)


class TrainingStep:
    """A repeatable training step on one batch: the learning rate is 0, so weights do not change.

    Args:
        probe: The network.
        samples: The source of the batch.
        batch_size: Images in the batch.
    """

    def __init__(self, probe: Probe, samples: TrainingSamples, batch_size: int) -> None:
        self.probe = probe
        self.protocol = samples.protocol
        self.batch: Batch = collate([samples[0, item] for item in range(batch_size)])
        self._optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=0.0)
        numbers = range(self.protocol.max_iterative_clicks + 1)
        # The generator's first draw decides the number of iterative clicks: find a seed for each number.
        self._seeds = {
            wanted: next(seed for seed in range(10_000) if _first_draw(seed, len(numbers)) == wanted)
            for wanted in numbers
        }

    def __call__(self, way: str, iterative: int) -> float:
        """Do a step after some iterative clicks; return the loss."""
        rng = np.random.default_rng(self._seeds[iterative])
        logits, targets = predict_batch(self.probe, self.batch, self.protocol, rng, speed=SPEEDS[way])
        loss = normalized_focal_loss(logits, targets).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.item()

    def all_numbers(self, way: str) -> list[float]:
        """Do a step with every possible number of iterative clicks, all equally likely; return the losses."""
        return [self(way, iterative) for iterative in self._seeds]


def _first_draw(seed: int, choices: int) -> int:
    return int(np.random.default_rng(seed).integers(choices))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
