"""Train the small vision transformer that the studies of injection, end-to-end training and granularity use.

    python benchmarks/recipes/study_backbone.py --output runs/studies/vit

Those questions need a transformer with useful features, and published weights need the hub. This recipe needs nothing:
it distils EfficientNet-Lite0, whose ImageNet weights come with a package, into a transformer of timm (``test_vit`` with
8×8 patches: 64 channels, 6 blocks). From the tokens of an image, linear layers have to predict the teacher's
standardised features at strides 8, 16 and 32 (mean squared error), on crops of generated scenes and, with ``--images``,
of photographs. The output is a folder for ``--backbone hf-hub:studies/vit --backbone-weights FOLDER``.

It is no foundation model. A study that uses it says how click encoders, injections and adapters behave on a frozen
transformer, not how good that transformer is.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from vfm_isbench.backbones import load_backbone
from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.datasets.scenes.embedded import EMBEDDED
from vfm_isbench.storage.atomic import replacing, write_text

SIZE = 96
PATCH = 8
STRIDES = (8, 16, 32)
CHANNELS = {8: 40, 16: 112, 32: 320}


def create_student() -> nn.Module:
    """The transformer, with random weights."""
    import timm

    model: nn.Module = timm.create_model(
        "test_vit", pretrained=False, num_classes=0, global_pool="", patch_size=PATCH, img_size=SIZE
    )
    return model


def tokens_of(student: Any, images: Tensor) -> Tensor:
    """Patch tokens of images B×3×H×W as a map B×C×h×w."""
    tokens = student.forward_features(images)[:, student.num_prefix_tokens :]
    side = images.shape[-1] // PATCH
    return tokens.transpose(1, 2).unflatten(2, (side, side))


class Teacher:
    """EfficientNet-Lite0's features at several strides, standardised by channel."""

    def __init__(self) -> None:
        self.backbones = {stride: load_backbone(f"efficientnet_lite0@{stride}", SIZE).eval() for stride in STRIDES}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        """Features of images B×3×H×W in [0, 1], by stride, with mean 0 and deviation 1 in each channel."""
        found = {}
        for stride, backbone in self.backbones.items():
            mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (backbone.mean, backbone.std))
            maps = torch.cat([backbone((part - mean) / std) for part in images.split(64)])
            centred = maps - maps.mean((0, 2, 3), keepdim=True)
            found[stride] = centred / (centred.std((0, 2, 3), keepdim=True) + 1e-5)
        return found


class Crops:
    """Random crops of scenes and photographs."""

    def __init__(self, scenes: int, photographs: Path | None) -> None:
        style = EMBEDDED["compact_scenes"].style
        dataset = ScenesDataset(split="train", n_images=max(scenes, 1), image_size=(180, 240), style=style, seed=1)
        self.images = [np.array(dataset.read(name).image) for name in list(dataset.image_ids)[:scenes]]
        if photographs is not None:
            files = sorted(file for file in photographs.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
            self.images += [np.array(Image.open(file).convert("RGB")) for file in files]
        if not self.images:
            raise SystemExit("no images: give --scenes above 0, or --images FOLDER")

    def batch(self, count: int, rng: np.random.Generator) -> Tensor:
        """``count`` crops, B×3×96×96 in [0, 1]: of random size, flipped, and of changed brightness and contrast."""
        return torch.stack([self._crop(rng) for _ in range(count)])

    def _crop(self, rng: np.random.Generator) -> Tensor:
        image = self.images[rng.integers(len(self.images))]
        side = int(rng.uniform(0.35, 1.0) * min(image.shape[:2]))
        top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
        crop = torch.from_numpy(image[top : top + side, left : left + side]).permute(2, 0, 1).float() / 255
        crop = functional.interpolate(crop[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]
        if rng.random() < 0.5:
            crop = crop.flip(2)
        return ((crop - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.1, 0.1)).clamp(0, 1)


def loss_of(student: nn.Module, readouts: nn.ModuleDict, images: Tensor, targets: dict[int, Tensor]) -> Tensor:
    """Mean squared error of the predicted features, summed over strides; the coarser maps from pooled tokens."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    tokens = tokens_of(student, (images - mean) / std)
    losses = []
    for stride, target in targets.items():
        pooled = functional.avg_pool2d(tokens, stride // PATCH) if stride > PATCH else tokens
        losses.append(functional.mse_loss(readouts[str(stride)](pooled), target))
    return torch.stack(losses).sum()


def schedule(step: int, steps: int) -> float:
    """Linear warm-up over 5 % of the steps, then half a cosine to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def train(arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Train the student; returns it with the figures of the training."""
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    crops = Crops(arguments.scenes, arguments.images)
    bank = crops.batch(arguments.crops, rng)
    targets = Teacher()(bank)
    student = create_student()
    readouts = nn.ModuleDict({str(stride): nn.Conv2d(64, CHANNELS[stride], 1) for stride in STRIDES})
    parameters = [*student.parameters(), *readouts.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=0.02)
    curve: list[float] = []
    began = time.process_time()
    for step in (bar := tqdm(range(arguments.steps), unit="step", disable=None)):
        chosen = torch.from_numpy(rng.choice(len(bank), arguments.batch_size, replace=False))
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * schedule(step, arguments.steps)
        loss = loss_of(student, readouts, bank[chosen], {stride: maps[chosen] for stride, maps in targets.items()})
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        curve.append(loss.item() / len(STRIDES))
        if step % 50 == 0:
            bar.set_postfix(error=f"{np.mean(curve[-50:]):.3f}")
    student.eval()
    return student, {
        "error_by_hundred_steps": [round(float(np.mean(part)), 4) for part in _parts(curve, 100)],
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _parts(values: list[float], size: int) -> Iterator[list[float]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def save(student: nn.Module, figures: dict[str, Any], folder: Path) -> None:
    """Write the folder that ``--backbone-weights`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in student.state_dict().items()}
    with replacing(folder / "model.safetensors") as partial:
        save_file(tensors, partial)
    config = {
        "architecture": "test_vit",
        "num_classes": 0,
        "model_args": {"patch_size": PATCH},
        "pretrained_cfg": {
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "input_size": [3, SIZE, SIZE],
            "num_classes": 0,
        },
    }
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "training.json", json.dumps(figures, indent=1) + "\n")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/studies/vit"))
    parser.add_argument("--scenes", type=int, default=400, help="generated scenes (default: 400)")
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--crops", type=int, default=6000, help="crops whose features are learned (default: 6000)")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    student, figures = train(arguments)
    figures["arguments"] = {
        key: str(value) for key, value in vars(arguments).items() if key not in ("output", "images")
    }
    save(student, figures, arguments.output)
    error = figures["error_by_hundred_steps"][-1]
    print(f"mean squared error of standardised features: {error:.3f} (the mean of each channel has 1)")
    print(f"saved: {arguments.output}; {figures['cpu_seconds']:.0f} CPU seconds")


if __name__ == "__main__":
    main()
