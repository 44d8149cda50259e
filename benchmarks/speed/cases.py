"""What the speed programs measure: which upsamplers and injections, on which objects, and the two ways."""

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
from vfm_isbench.backbones import Backbone, load_backbone
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.benchmark import choose_device
from vfm_isbench.datasets import ObjectDataset, open_dataset
from vfm_isbench.evaluation import EvaluationTimes, evaluate_dataset
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.protocol.validation import Injection
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.loop import predict_batch
from vfm_isbench.training.samples import Batch, collate
from vfm_isbench.types import AnnotatedImage, ObjectEvidence, ObjectId
from vfm_isbench.upsamplers import load_upsampler

WAYS = ("slow", "fast")
"""The whole probe for every click; and what the library does by itself."""

SPEEDS = {"slow": Speed(shortcut=False), "fast": Speed()}
"""What evaluation and training are called with, by way."""

TEST_DATASETS = {"grabcut": "GrabCut", "berkeley": "Berkeley", "davis": "DAVIS", "sbd": "SBD"}
"""Folders below a data root, in the order in which objects are taken from them."""

_ENCODERS = {"late": "simple_vit", "early": "patch_embedding", "pre_upsampler": "simple_vit"}
_DEFAULT_BACKBONE = "timm:vit_small_patch14_dinov2"
_FAKE = "fake"


@dataclass(frozen=True)
class Case:
    """An upsampler (random weights), and where click tokens are added."""

    upsampler: str
    injection: Injection

    def __str__(self) -> str:
        return f"{self.upsampler} {self.injection}"


def case(text: str) -> Case:
    """Read ``loftup:late``, for command lines."""
    upsampler, _, injection = text.partition(":")
    if injection not in get_args(Injection):
        raise argparse.ArgumentTypeError(f"{text!r}: expected UPSAMPLER:INJECTION, as in loftup:late")
    return Case(upsampler, injection)  # type: ignore[arg-type]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all programs take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--backbone", default=_DEFAULT_BACKBONE, help="any timm backbone, random weights; 'fake': tiny")
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--rounds", type=int, default=5, help="every figure is a median over as many")
    made.add_argument("--device", default="auto")
    made.add_argument("--data-root", type=Path, help="holds GrabCut/, Berkeley/, …; without it, the embedded scenes")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all measured values there")
    return made


def started(options: argparse.Namespace) -> tuple[torch.device, dict[str, Any]]:
    """The device, and the head of the results: machine and options; both are printed."""
    device = choose_device(options.device)
    found = machine(device)
    print(machine_line(found))
    said = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    data = "photographs" if options.data_root else "embedded scenes"
    print(f"{options.backbone}, {options.image_size} px, {data}, {options.rounds} rounds, float32\n", flush=True)
    return device, {"machine": found, "options": {key: _plain(value) for key, value in said.items()}}


def _plain(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, list) else value


def finish(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the results, if asked for."""
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def backbone_of(name: str, image_size: int, width: int | None = None) -> Backbone:
    """A backbone with random weights, if asked for of another width."""
    if name == _FAKE:
        return FakeBackbone(width or 8)
    if width is None:
        return load_backbone(name, image_size, pretrained=False)
    model = timm.create_model(
        name.removeprefix("timm:"), pretrained=False, num_classes=0, global_pool="", img_size=image_size,
        embed_dim=width, num_heads=max(width // 64, 1),
    )  # fmt: skip
    return ViTBackbone(f"{name}, width {width}", model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])


def protocol_of(one: Case, options: argparse.Namespace, **changes: Any) -> Protocol:
    """The paper's protocol with this injection, and the click encoder that goes with it."""
    small = {"zoom_min_size": 20, "min_object_area": 10} if options.backbone == _FAKE else {}
    settings = {
        "backbone": options.backbone,
        "image_size": options.image_size,
        "injection": one.injection,
        "click_encoder": _ENCODERS[one.injection],
    }
    return Protocol.preset("paper").replace(**(settings | small | changes))


def probe_of(one: Case, protocol: Protocol, device: torch.device, width: int | None = None) -> Probe:
    """A probe with random weights, the same ones every time, in eval mode."""
    torch.manual_seed(0)
    backbone = backbone_of(protocol.backbone, protocol.image_size, width)
    learned = LEARNED.get(one.upsampler)
    upsampler = load_upsampler(one.upsampler) if learned is None else learned(backbone.channels)
    return build_probe(protocol, backbone, upsampler).to(device).eval()


class SomeObjects(ObjectDataset):
    """Some objects of a data set, which are taken in their order, over and over where there are too few."""

    def __init__(self, dataset: ObjectDataset, first: int, count: int) -> None:
        self.name = dataset.name
        self._dataset = dataset
        in_all = dataset.objects
        self.objects: Sequence[ObjectId] = [in_all[(first + index) % len(in_all)] for index in range(count)]

    @property
    def image_ids(self) -> Sequence[str]:
        """Images of these objects."""
        return list(dict.fromkeys(one.image for one in self.objects))

    def read(self, image_id: str) -> AnnotatedImage:
        """See :meth:`ObjectDataset.read`."""
        return self._dataset.read(image_id)


def evaluation_datasets(options: argparse.Namespace, protocol: Protocol) -> list[ObjectDataset]:
    """The test sets below the data root; the embedded scenes where there is none.

    Raises:
        SystemExit: if the data root holds none of them.
    """
    if options.data_root is None:
        return [open_dataset("scenes", "test", None, protocol)]
    present = [name for name, folder in TEST_DATASETS.items() if (options.data_root / folder).is_dir()]
    if not present:
        raise SystemExit(f"{options.data_root} holds none of {', '.join(TEST_DATASETS.values())}")
    return [open_dataset(name, "test", options.data_root, protocol) for name in present]


def training_samples(options: argparse.Namespace, protocol: Protocol) -> TrainingSamples:
    """Samples of SBD, if it is below the data root, or of the embedded scenes."""
    has_sbd = options.data_root is not None and (options.data_root / TEST_DATASETS["sbd"]).is_dir()
    dataset = open_dataset("sbd" if has_sbd else "scenes", "train", options.data_root, protocol)
    return TrainingSamples(dataset, protocol)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation: what came out, what the library timed, and the seconds of the call."""

    evidence: list[ObjectEvidence]
    times: EvaluationTimes
    seconds: float

    @property
    def per_click(self) -> float:
        """Seconds per click placed."""
        return self.seconds / self.times.clicks


def evaluated(probe: Probe, dataset: ObjectDataset, protocol: Protocol, speed: Speed) -> Evaluated:
    """Evaluate a data set, reading included."""
    start = time.perf_counter()
    evidence, times = evaluate_dataset(probe, dataset, protocol, speed=speed, progress=False)
    return Evaluated(evidence, times, time.perf_counter() - start)


class TrainingStep:
    """One training step on a batch, over and over: weights do not change, for the learning rate is 0.

    Args:
        probe: The network.
        samples: Where the batch comes from.
        batch_size: Images in it.
    """

    def __init__(self, probe: Probe, samples: TrainingSamples, batch_size: int) -> None:
        self.probe = probe
        self.protocol = samples.protocol
        self.batch: Batch = collate([samples[0, item] for item in range(batch_size)])
        self._optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=0.0)
        numbers = range(self.protocol.max_iterative_clicks + 1)
        # The first draw decides how many iterative clicks there are: the first seed that draws as many.
        self._seeds = {
            wanted: next(seed for seed in range(10_000) if _first_draw(seed, len(numbers)) == wanted)
            for wanted in numbers
        }

    def __call__(self, way: str, iterative: int) -> float:
        """Predict after some iterative clicks, and learn from it; returns the loss."""
        rng = np.random.default_rng(self._seeds[iterative])
        logits, targets = predict_batch(self.probe, self.batch, self.protocol, rng, speed=SPEEDS[way])
        loss = normalized_focal_loss(logits, targets).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.item()

    def all_numbers(self, way: str) -> list[float]:
        """A step with every number of iterative clicks, all of which are equally likely; returns the losses."""
        return [self(way, iterative) for iterative in self._seeds]


def _first_draw(seed: int, choices: int) -> int:
    return int(np.random.default_rng(seed).integers(choices))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
