"""Train LiFT, FeatUp-JBU or LoftUp for a backbone, on photographs and generated scenes.

    python benchmarks/recipes/train_upsampler.py lift --images PHOTOGRAPHS --output runs/upsamplers/lift.safetensors
    python benchmarks/recipes/train_upsampler.py loftup --output runs/upsamplers/loftup.safetensors

PHOTOGRAPHS is any folder of photographs; they are only read. Without it, only the scenes of the demo's training split
are used, which everybody has. Every tenth photograph and the scenes of the validation split are held out. The file
can be used as ``lift:FILE``, ``featup:FILE`` or ``loftup:FILE``. Beside it, a JSON file of the same name keeps the
settings, the loss curve, and the errors of held-out features against those of interpolations; ``--only-errors``
measures these again for a file that is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from training_upsamplers.features import FrozenFeatures
from training_upsamplers.held_out import guidance_effect, held_out_errors, mirrored_error
from training_upsamplers.loop import Settings, train
from training_upsamplers.methods import DEFAULTS, METHODS
from training_upsamplers.pictures import Pictures, photographs, scenes

from vfm_isbench.backbones import Backbone, load_backbone
from vfm_isbench.results.table import lay_out
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.strict_json import read_json
from vfm_isbench.storage.tensor_files import write_tensors
from vfm_isbench.upsamplers import find_module, load_upsampler

_HELD_OUT_SCENES = 16


def pictures_of(options: argparse.Namespace) -> tuple[list[Pictures], list[Pictures]]:
    """Pictures to train on, and those held out, of each kind that was asked for."""
    kinds = []
    if options.images is not None:
        names = options.names.read_text(encoding="utf-8").split() if options.names else None
        kinds.append(photographs(options.images, names))
    if options.scenes:
        kinds.append((scenes(options.scenes, "train"), scenes(_HELD_OUT_SCENES, "val")))
    if not kinds:
        raise SystemExit("nothing to train on: give --images FOLDER, or --scenes with a number above 0")
    training, held_out = zip(*kinds, strict=True)
    return list(training), list(held_out)


def trained(options: argparse.Namespace, features: FrozenFeatures, pictures: Sequence[Pictures]) -> dict[str, Any]:
    """Train, write the upsampler, and return what is kept about the training."""
    asked = {name: getattr(options, name) for name in DEFAULTS[options.method]}
    numbers = {**DEFAULTS[options.method], **{name: value for name, value in asked.items() if value is not None}}
    settings = Settings(**numbers, seed=options.seed)
    began, began_cpu = time.perf_counter(), time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)  # for the first weights and dropout
        method = METHODS[options.method](features, options.image_size)
        for part in method.modules():
            part.to(options.device)
        curve = train(method, pictures, settings)
    seconds = {"wall": round(time.perf_counter() - began, 1), "cpu": round(time.process_time() - began_cpu, 1)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(options.output, method.tensors(), {"method": options.method, "backbone": options.backbone})
    return {
        "method": options.method,
        "backbone": options.backbone,
        "image_size": options.image_size,
        "pictures": {kind.kind: len(kind.images) for kind in pictures},
        "settings": numbers | {"seed": options.seed},
        "seconds": seconds,
        "curve": [[step, round(loss, 5)] for step, loss in curve],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--names", type=Path, help="text file with the names of the photographs to use, without suffix")
    parser.add_argument("--scenes", type=int, default=150, help="generated scenes to train on (default: %(default)s)")
    parser.add_argument("--backbone", default="efficientnet_lite0@8")
    parser.add_argument("--backbone-weights", type=Path)
    parser.add_argument("--image-size", type=int, default=96, help="of the protocol (default: %(default)s)")
    for name, kind in (("crops", int), ("steps", int), ("batch-size", int), ("learning-rate", float)):
        parser.add_argument(f"--{name}", type=kind, help="default: by method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-errors", action="store_true", help="train nothing: measure the file again")
    options = parser.parse_args(arguments)
    training, held_out = pictures_of(options)

    def backbone_of(size: int) -> Backbone:
        return load_backbone(options.backbone, size, weights=options.backbone_weights).to(options.device)

    features = FrozenFeatures(backbone_of, options.image_size)
    file = options.output.with_suffix(".json")
    report = dict(read_json(file)) if options.only_errors else trained(options, features, training)
    spec = f"{METHODS[options.method].spec_kind}:{options.output}"
    upsampler = load_upsampler(spec)
    if (module := find_module(upsampler)) is not None:
        module.to(options.device)
    report["held_out"] = held_out_errors(upsampler, features, held_out, options.image_size)
    report["mirrored"] = {kind.kind: mirrored_error(features, kind, options.image_size) for kind in held_out}
    report["guidance"] = {
        kind.kind: guidance_effect(upsampler, features, kind, options.image_size) for kind in held_out
    }
    write_text(file, json.dumps(report, indent=1))
    (first, begin), (last, end) = report["curve"][0], report["curve"][-1]
    print(f"loss {begin:.4f} at step {first}, {end:.4f} at step {last}; {report['seconds']}\n")
    entries = report["held_out"]
    print("\n".join(lay_out([list(entries[0]), *([str(value) for value in entry.values()] for entry in entries)])))
    print(f"\nuse it as {spec}")


if __name__ == "__main__":
    main()
