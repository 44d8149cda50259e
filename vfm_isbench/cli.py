"""The command line: the same words as in Python.

Exit codes: 0 done, 2 wrong use or bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vfm_isbench import __version__
from vfm_isbench.backbones import list_backbones
from vfm_isbench.benchmark import Benchmark, choose_device
from vfm_isbench.datasets import list_datasets
from vfm_isbench.errors import ProtocolError, VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.upsamplers import check_upsampler, find_module, list_upsamplers, prepare_upsampler

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130

_UPSAMPLER_HELP = "built-in name, package.module:attribute, or path/to/file.py:attribute"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="vfm-isbench",
        description="How good is my feature upsampler? A benchmark by interactive segmentation.",
        epilog="Start with: vfm-isbench run bilinear",
    )
    parser.add_argument("--version", action="version", version=f"vfm-isbench {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="train and evaluate an upsampler, print the standard table")
    run.set_defaults(function=run_command)
    run.add_argument("upsampler", metavar="UPSAMPLER", help=_UPSAMPLER_HELP)
    run.add_argument("--name", help="what the table calls it (default: its own name)")
    _add_protocol_options(run)
    run.add_argument("--datasets", nargs="+", metavar="NAME", help="test sets to evaluate (default: the protocol's)")
    run.add_argument("--data-root", type=Path, metavar="DIR", help="folder with SBD/, GrabCut/, Berkeley/, DAVIS/")
    run.add_argument("--backbone-weights", type=Path, metavar="PATH", help="file or folder with the backbone's weights")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    run.add_argument("--workers", type=int, default=0, metavar="N", help="processes that prepare training samples")
    run.add_argument("--output", type=Path, metavar="DIR", help="run folder (default: runs/UPSAMPLER-PROTOCOL-seedN)")
    run.add_argument("--overwrite", action="store_true", help="give up another run found in the run folder")
    run.add_argument("--quiet", action="store_true", help="no progress bars")

    listing = commands.add_parser("list", help="what can be named")
    listing.set_defaults(function=list_command)
    listing.add_argument("kind", choices=["protocols", "backbones", "upsamplers", "datasets"])

    check = commands.add_parser("check", help="check an upsampler against its contract, without training")
    check.set_defaults(function=check_command)
    check.add_argument("upsampler", metavar="UPSAMPLER", help=_UPSAMPLER_HELP)
    check.add_argument("--channels", type=int, default=384, metavar="C", help="feature channels (default: 384)")
    check.add_argument("--patch-size", type=int, default=14, metavar="P", help="patch side in pixels (default: 14)")
    check.add_argument("--image-size", type=int, default=224, metavar="S", help="image side in pixels (default: 224)")
    check.add_argument(
        "--injection", default="late", metavar="NAME", help="early and pre_upsampler need gradients (default: late)"
    )
    check.add_argument("--device", default="auto", help="auto, cpu, cuda, … (default: auto)")
    return parser


def _add_protocol_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", default="demo", metavar="NAME", help=f"{', '.join(PRESETS)} (default: demo)")
    parser.add_argument("--backbone", metavar="NAME", help="see: vfm-isbench list backbones")
    parser.add_argument("--click-encoder", metavar="NAME", help="patch_embedding or simple_vit")
    parser.add_argument("--injection", metavar="NAME", help="early, late or pre_upsampler")
    parser.add_argument("--head", metavar="NAME", help="conv or linear")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of weights and training draws")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of training")
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate only the first N objects of each test set")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other field of the protocol, value as JSON or text; may be repeated",
    )


def protocol_from(arguments: argparse.Namespace) -> Protocol:
    """The preset named, with the fields given on the command line."""
    changes = {
        "backbone": arguments.backbone,
        "click_encoder": arguments.click_encoder,
        "injection": arguments.injection,
        "head": arguments.head,
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "object_limit": arguments.limit,
        "test_datasets": tuple(arguments.datasets) if arguments.datasets else None,
    }
    given = {field: value for field, value in changes.items() if value is not None}
    given |= dict(_field_and_value(text) for text in arguments.set)
    return Protocol.preset(arguments.protocol).replace(**given)


def _field_and_value(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals:
        raise ProtocolError(f"--set {text!r} sets nothing; expected FIELD=VALUE, as in --set disk_radius=3")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value


def run_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench run``."""
    protocol = protocol_from(arguments)
    output = arguments.output or default_output(arguments.name or arguments.upsampler, protocol)
    benchmark = Benchmark(
        protocol,
        device=arguments.device,
        data_root=arguments.data_root,
        output_dir=output,
        backbone_weights=arguments.backbone_weights,
        workers=arguments.workers,
        progress=not arguments.quiet,
        overwrite=arguments.overwrite,
    )
    result = benchmark.run(arguments.upsampler, arguments.name)
    _say(str(result), f"saved: {output / 'result.json'}")


def default_output(upsampler: str, protocol: Protocol) -> Path:
    """Run folder where none was named."""
    return Path("runs") / re.sub(r"[^\w.-]+", "-", f"{upsampler}-{protocol.name}-seed{protocol.seed}")


def list_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench list``."""
    entries: dict[str, str] = {
        "protocols": lambda: {name: protocol.signature() for name, protocol in PRESETS.items()},
        "backbones": list_backbones,
        "upsamplers": list_upsamplers,
        "datasets": list_datasets,
    }[arguments.kind]()
    width = max(map(len, entries))
    _say(*(f"{name.ljust(width)}  {description}" for name, description in entries.items()))


def check_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench check``."""
    protocol = Protocol.preset("paper").replace(injection=arguments.injection)
    side = arguments.image_size // arguments.patch_size
    device = choose_device(arguments.device)
    upsampler = prepare_upsampler(arguments.upsampler)
    module = find_module(upsampler)
    if module is not None:
        module.to(device)
    report = check_upsampler(
        upsampler,
        channels=arguments.channels,
        grid=(side, side),
        image_size=(arguments.image_size, arguments.image_size),
        device=device,
        needs_gradient=protocol.injection != "late",
    )
    _say(f"{arguments.upsampler} keeps the contract", str(report))


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    kind = "warning" if issubclass(category, VfmIsbenchWarning) else category.__name__
    sys.stderr.write(f"{kind}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parsed = build_parser().parse_args(_allow_debug_anywhere(sys.argv[1:] if arguments is None else arguments))
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            parsed.function(parsed)
        except VfmIsbenchError as error:
            if parsed.debug:
                traceback.print_exc()
            sys.stderr.write(f"vfm-isbench: {error}\n")
            return BAD_INPUT
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
            return INTERRUPTED
    return OK


def _allow_debug_anywhere(arguments: Iterable[str]) -> list[str]:
    arguments = list(arguments)
    rest = [argument for argument in arguments if argument != "--debug"]
    return ["--debug", *rest] if len(rest) < len(arguments) else rest
