"""Options and helpers that several subcommands share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias, get_args

from vfm_isbench.acceleration.speed import Precision, Speed
from vfm_isbench.errors import ProtocolError, ResultError
from vfm_isbench.leaderboard.board import ENTRIES
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.protocol.validation import HeadName
from vfm_isbench.results.intervals import CONFIDENCE
from vfm_isbench.storage import atomic
from vfm_isbench.upsamplers import LoadOptions

UPSAMPLER_HELP = (
    "built-in name, plugin name, loftup:NAME, featup:NAME, lift:FILE, hub:OWNER/REPO:ENTRY, hf:OWNER/NAME, "
    "code:FOLDER:MODULE:CLASS, package.module:attribute, or path/to/file.py:attribute; see list upsamplers --all"
)

OK, BAD_INPUT, INCOMPARABLE, INTERRUPTED = 0, 2, 3, 130
"""Exit codes of all commands; ``regress`` has two more, for its verdicts."""

STOP_AT_IOU = (80, 85, 90)
"""What ``--stop-at-iou`` means without values, in percent: the IoUs of the standard table."""

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def write_text(path: Path, text: str) -> None:
    """Write a text file, and create its folder if needed.

    Raises:
        ResultError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; see :func:`write_text`."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def add_statistics_options(parser: argparse.ArgumentParser, of: str) -> None:
    """``--confidence``, ``--json``, and ``--resamples``, which only warns; ``of`` says what the confidence is of."""
    parser.add_argument(
        "--confidence", type=float, default=CONFIDENCE, metavar="C", help=f"confidence {of} (default: {CONFIDENCE})"
    )
    parser.add_argument("--resamples", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")


def add_entries_option(parser: argparse.ArgumentParser) -> None:
    """``--entries``."""
    parser.add_argument(
        "--entries", type=Path, default=ENTRIES, metavar="DIR", help=f"folder of entries (default: {ENTRIES})"
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`load_options` reads."""
    parser.add_argument(
        "--upsampler-weights", type=Path, metavar="PATH", help="file or folder with the upsampler's weights"
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let hub:…, hf:… and code:… run the code of a repository"
    )


def add_data_root_option(parser: argparse.ArgumentParser) -> None:
    """``--data-root``."""
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder with SBD/, GrabCut/, Berkeley/, DAVIS/, …"
    )


def add_backbone_weights_option(parser: argparse.ArgumentParser) -> None:
    """``--backbone-weights``."""
    parser.add_argument(
        "--backbone-weights", type=Path, metavar="PATH", help="file or folder with the backbone's weights"
    )


def add_random_weights_option(parser: argparse.ArgumentParser) -> None:
    """``--random-weights``."""
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="a dry run: give the backbone random weights instead of its own; such results are never ranked",
    )


def add_replacement_options(parser: argparse.ArgumentParser) -> None:
    """Add what can replace parts of a checkpoint, and ``--device``."""
    parser.add_argument(
        "--upsampler", metavar="UPSAMPLER", help=f"replaces the checkpoint's own upsampler: {UPSAMPLER_HELP}"
    )
    add_loading_options(parser)
    add_backbone_weights_option(parser)
    add_random_weights_option(parser)
    add_device_option(parser)


def load_options(arguments: argparse.Namespace) -> LoadOptions:
    """How to load the upsampler."""
    return LoadOptions(weights=arguments.upsampler_weights, trust_remote_code=arguments.trust_remote_code)


def add_boundary_option(parser: argparse.ArgumentParser) -> None:
    """``--boundary-iou``."""
    parser.add_argument(
        "--boundary-iou", action="store_true", help="measure boundary IoU after every click, too; takes some time"
    )


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`speed_from` reads."""
    group = parser.add_argument_group("speed", "how fast numbers are computed; the protocol stays the same")
    group.add_argument(
        "--stop-at-iou",
        "--early-stop",  # still accepted
        type=int,
        nargs="*",
        metavar="IOU",
        help="stop clicking an object once it has reached all these IoUs, in %% (without values: 80 85 90); NoC and "
        "IoU@1 stay the same, later IoUs are missing, and the result is not ranked",
    )
    group.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="arithmetic of the network; anything but float32 changes numbers slightly, and is not ranked",
    )
    group.add_argument("--objects-at-once", type=int, metavar="N", help="objects per pass (default: 8 on CUDA, else 1)")
    group.add_argument(
        "--images-at-once", type=int, metavar="N", help="images per pass in training, to save memory (default: a batch)"
    )
    group.add_argument("--feature-cache", type=Path, metavar="DIR", help="cache backbone features there for later runs")
    group.add_argument(
        "--no-shortcut",
        action="store_true",
        help="run the whole network for every click, as a check (does not retrain a probe that is already trained)",
    )


def speed_from(arguments: argparse.Namespace) -> Speed:
    """The speed settings."""
    stop = arguments.stop_at_iou
    return Speed(
        stop_at_iou=None if stop is None else tuple(stop) or STOP_AT_IOU,
        precision=arguments.precision,
        objects_at_once=arguments.objects_at_once,
        images_at_once=arguments.images_at_once,
        feature_cache=arguments.feature_cache,
        shortcut=not arguments.no_shortcut,
    )


def add_protocol_options(parser: argparse.ArgumentParser, *, of_baseline: bool = False) -> None:
    """Add the options that :func:`protocol_from` reads.

    Args:
        parser: Gets the options.
        of_baseline: The command is about recorded results: it names seeds itself, and their protocol is the default.
    """
    otherwise = "that of the baseline, in its newest version" if of_baseline else "demo"
    parser.add_argument(
        "--protocol",
        default=None if of_baseline else "demo",
        metavar="NAME",
        help=f"{', '.join(PRESETS)} (default: {otherwise})",
    )
    parser.add_argument("--backbone", metavar="NAME", help="see: vfm-isbench list backbones")
    parser.add_argument("--click-encoder", metavar="NAME", help="see: vfm-isbench list click_encoders")
    parser.add_argument("--injection", metavar="NAME", help="early, late or pre_upsampler")
    parser.add_argument("--head", metavar="NAME", help=" or ".join(get_args(HeadName)))
    if not of_baseline:
        parser.add_argument("--seed", type=int, metavar="N", help="seed of the initial weights and of training")
    parser.add_argument("--epochs", type=int, metavar="N", help="training epochs")
    for part in ("upsampler", "backbone"):
        parser.add_argument(
            f"--train-{part}",
            action="store_true",
            default=None,
            help=f"train the {part} with the probe, instead of freezing it; such results are not ranked",
        )
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate only the first N objects of each test set")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any other protocol field; VALUE is JSON or text; may be repeated",
    )


def protocol_from(arguments: argparse.Namespace, otherwise: Protocol | None = None) -> Protocol:
    """The chosen preset (``otherwise`` if none was chosen), with the fields set on the command line."""
    changes = {
        "backbone": arguments.backbone,
        "click_encoder": arguments.click_encoder,
        "injection": arguments.injection,
        "head": arguments.head,
        "seed": getattr(arguments, "seed", None),
        "epochs": arguments.epochs,
        "train_upsampler": arguments.train_upsampler,
        "train_backbone": arguments.train_backbone,
        "object_limit": arguments.limit,
        "test_datasets": tuple(arguments.datasets) if arguments.datasets else None,
    }
    given = {field: value for field, value in changes.items() if value is not None}
    given |= fields_from(arguments)
    base = otherwise if arguments.protocol is None and otherwise is not None else None
    return (base or Protocol.preset(arguments.protocol or "demo")).replace(**given)


def fields_from(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of the protocol that ``--set`` gives."""
    return dict(_field_and_value(text) for text in arguments.set)


def _field_and_value(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise ProtocolError(f"--set got {text!r}; expected FIELD=VALUE, for example --set disk_radius=3")
    try:
        return field, json.loads(value)
    except (ValueError, RecursionError):
        return field, value
