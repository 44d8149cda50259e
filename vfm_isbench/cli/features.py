"""``vfm-isbench features``: draw features before and after upsampling, side by side."""

from __future__ import annotations

import argparse
import dataclasses

from vfm_isbench.backbones import load_backbone
from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_device_option,
    add_loading_options,
    load_options,
)
from vfm_isbench.cli.plot import add_output_options, save
from vfm_isbench.datasets.scenes.dataset import ScenesDataset
from vfm_isbench.errors import PictureError
from vfm_isbench.probe.preparation import choose_device
from vfm_isbench.protocol import PRESETS
from vfm_isbench.upsamplers import LOADERS, load_upsampler

IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""A word on the command line with one of these endings is an image; no upsampler's name ends like this."""

_IMAGE_SIZE = 224


def add_features(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "features",
        help="draw features before and after upsampling, side by side",
        description="Draws features before and after upsampling, coloured by one shared projection. Words that end "
        f"like image files ({', '.join(IMAGE_ENDINGS)}) are images; all others are upsamplers.",
    )
    parser.set_defaults(function=features_command)
    parser.add_argument(
        "words", nargs="+", metavar="UPSAMPLER", help=f"one column each, then images if any: {UPSAMPLER_HELP}"
    )
    parser.add_argument(
        "--image",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="images with any file ending, one row each (default: an embedded scene)",
    )
    parser.add_argument("--backbone", metavar="NAME", help="see: vfm-isbench list backbones (default: the demo's)")
    add_backbone_weights_option(parser)
    parser.add_argument(
        "--image-size", type=int, default=_IMAGE_SIZE, metavar="S", help=f"in pixels (default: {_IMAGE_SIZE})"
    )
    add_loading_options(parser)
    add_device_option(parser)
    add_output_options(parser, "a PNG")


def features_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench features``."""
    # Imported here because matplotlib is optional, and most commands do not need it.
    from vfm_isbench.inspection.feature_maps import read_square_image, square_image, upsampled_features
    from vfm_isbench.viz import feature_table

    names, files = split_words(arguments.words)
    size, device = arguments.image_size, choose_device(arguments.device)
    backbone = load_backbone(arguments.backbone or PRESETS["demo"].backbone, size, weights=arguments.backbone_weights)
    images = [read_square_image(file, size) for file in [*files, *arguments.image]]
    if not images:
        scenes = ScenesDataset(split="test")
        images = [square_image(scenes.read(scenes.image_ids[0]).image, size)]
    options = load_options(arguments)
    # Only some upsamplers take weights; the built-in ones next to them do not.
    no_weights = dataclasses.replace(options, weights=None)
    takes_weights = [name for name in names if name.partition(":")[0] in LOADERS] or names
    upsamplers = {name: load_upsampler(name, options if name in takes_weights else no_weights) for name in names}
    rows = upsampled_features(images, backbone.to(device), upsamplers, device=device)
    figure = feature_table(rows, backbone=backbone.name)
    save(figure, arguments, "features", f"{backbone.name} {size} px: {', '.join(names)}", formats=("png",))


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words of a command line into upsamplers and images.

    Raises:
        PictureError: if there is no upsampler.
    """
    images = [word for word in words if word.lower().endswith(IMAGE_ENDINGS)]
    names = list(dict.fromkeys(word for word in words if word not in images))
    if not names:
        raise PictureError("no upsampler named, only images; name one, for example: features bilinear photo.jpg")
    return names, images
