"""``vfm-isbench baseline``: whether the baseline of a regression test still holds, and making one."""

from __future__ import annotations

import argparse
import re
import shlex
import traceback
from collections.abc import Iterable
from pathlib import Path

from vfm_isbench.baseline import (
    BaselineCheck,
    BaselinePlan,
    Recorded,
    UpsamplerChoice,
    check_baseline,
    first_epoch,
    load_baseline,
    make_baseline,
    prospect_of,
    protocol_today,
    refuse_another_upsampler,
)
from vfm_isbench.benchmark import Benchmark
from vfm_isbench.cli.options import (
    BAD_INPUT,
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_data_root_option,
    add_device_option,
    add_loading_options,
    add_protocol_options,
    add_speed_options,
    load_options,
    protocol_from,
    speed_from,
    write_json,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import ResultError, VfmIsbenchError
from vfm_isbench.probe.preparation import choose_device
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result, describe_environment
from vfm_isbench.results.environment_difference import environment_key
from vfm_isbench.upsamplers import list_upsamplers

CODES = (
    "exit codes: 0 the baseline holds, 1 make it again, 2 wrong use or a bad file, 3 files that do not belong together"
)

_SEEDS = (0, 1, 2)
_REPEATED = ("backbone", "click_encoder", "injection", "head", "epochs", "limit")
"""Protocol options that the printed command repeats, besides --protocol, --datasets and --set."""


def add_baseline(commands: Subparsers) -> None:
    """Add the subcommand with its own subcommands."""
    parser = commands.add_parser("baseline", help="whether a regression test's baseline still holds, and making one")
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    check = subjects.add_parser(
        "check",
        help="say whether recorded results still hold under the installed version, without a whole run",
        description="Compares recorded results with what a run of the same options would record today: protocol, rules "
        "of the library, data, backbone, versions. Trains nothing without --first-epoch.",
        epilog=CODES,
    )
    check.set_defaults(function=check_command)
    check.add_argument(
        "baseline", nargs="+", type=Path, metavar="RESULT", help="result files, one per seed, or the folder with them"
    )
    check.add_argument("--upsampler", metavar="UPSAMPLER", help=f"default: as the baseline says; {UPSAMPLER_HELP}")
    check.add_argument(
        "--first-epoch",
        action="store_true",
        help="also train the first epoch of the first seed again, and compare its loss and IoU",
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    make = subjects.add_parser(
        "make",
        help="train and evaluate once per seed, and write the results as a baseline",
        description="Trains and evaluates once per seed, and writes seedN.json files. An interrupted command resumes.",
    )
    make.set_defaults(function=make_command)
    make.add_argument("upsampler", nargs="?", metavar="UPSAMPLER", help=UPSAMPLER_HELP)
    make.add_argument("--seeds", nargs="+", type=int, metavar="N", help="training seeds (default: 0 1 2)")
    where = make.add_mutually_exclusive_group()
    where.add_argument(
        "--output", type=Path, default=Path("baseline"), metavar="DIR", help="folder of the files (default: baseline)"
    )
    where.add_argument(
        "--again",
        type=Path,
        metavar="DIR",
        help="make the baseline in this folder again, with its upsampler, protocol and seeds",
    )
    make.add_argument(
        "--new-upsampler", action="store_true", help="with --again: accept an upsampler that is not the recorded one"
    )
    make.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder of the run folders (default: runs/baseline-UPSAMPLER-HASH)"
    )
    make.add_argument("--overwrite", action="store_true", help="replace files and discard other runs")
    make.add_argument("--workers", type=int, default=0, metavar="N", help="processes that prepare training samples")
    key = subjects.add_parser(
        "key",
        help="print a key of this machine and its packages, for a cache of baselines",
        description="Prints one word: processor, CPU capability, threads, PyTorch, this library, and a hash of "
        "all that decides the last digits. Under the same key, the same seeds give the same numbers.",
    )
    key.set_defaults(function=key_command)
    add_device_option(key)
    for command in (check, make):
        command.add_argument("--identity", metavar="TEXT", help="which upsampler it is, if it cannot be hashed")
        add_protocol_options(command, of_baseline=True)
        command.add_argument("--datasets", nargs="+", metavar="NAME", help="test sets (default: the protocol's)")
        add_data_root_option(command)
        add_backbone_weights_option(command)
        add_loading_options(command)
        add_device_option(command)
        add_speed_options(command)
        command.add_argument("--quiet", action="store_true", help="no progress bars")


def check_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench baseline check``."""
    try:
        return _check(arguments)
    except VfmIsbenchError:
        raise
    except Exception:  # Python would exit with 1, which means that the baseline does not hold.
        traceback.print_exc()
        return BAD_INPUT


def _check(arguments: argparse.Namespace) -> int:
    recorded = load_baseline(arguments.baseline)
    check = _checked(recorded, _protocol(arguments, recorded), arguments)
    if arguments.json:
        write_json(arguments.json, check.to_dict())
    say(str(check))
    return check.exit_code


def make_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench baseline make``."""
    plan = _first_plan(arguments) if arguments.again is None else _plan_again(arguments)

    def run(protocol: Protocol, folder: Path, discard: bool) -> Result:
        overwrite = discard or arguments.overwrite
        is_finished = not overwrite and (folder / "result.json").exists()
        say(f"seed {protocol.seed}: {folder}{' (finished earlier, kept)' if is_finished else ''}")
        benchmark = _benchmark(protocol, arguments, folder, overwrite)
        return benchmark.run(plan.spec, identity=arguments.identity)

    results = make_baseline(plan, run)
    say(*(str(result) for result in results), *(f"written: {path}" for path in plan.files.values()))


def key_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench baseline key``."""
    say(environment_key(describe_environment(choose_device(arguments.device))))


def _first_plan(arguments: argparse.Namespace) -> BaselinePlan:
    folder, spec = arguments.output, arguments.upsampler
    if spec is None:
        raise ResultError("expected an upsampler, as in: vfm-isbench baseline make UPSAMPLER; or --again DIR")
    present = sorted(folder.glob("*.json"))
    if present and not arguments.overwrite:
        raise ResultError(
            f"{folder} already holds {', '.join(path.name for path in present)}. To make this baseline again, use "
            f"--again {folder}; to replace it by another one, --overwrite"
        )
    protocol = protocol_from(arguments)
    seeds = dict.fromkeys(arguments.seeds or _SEEDS)
    return BaselinePlan(spec, protocol, _files(folder, seeds), arguments.runs or _runs(spec, protocol))


def _files(folder: Path, seeds: Iterable[int]) -> dict[int, Path]:
    return {seed: folder / f"seed{seed}.json" for seed in seeds}


def _plan_again(arguments: argparse.Namespace) -> BaselinePlan:
    recorded = load_baseline([arguments.again])
    spec = arguments.upsampler or _spec(recorded)
    if spec is None:
        raise ResultError(
            f"{arguments.again} does not say how to load its upsampler, because other commands wrote it: add the "
            f"upsampler, as in: vfm-isbench baseline make UPSAMPLER --again {arguments.again}"
        )
    arguments.upsampler = spec
    protocol = _protocol(arguments, recorded)
    if not arguments.new_upsampler:
        refuse_another_upsampler(_checked(recorded, protocol, arguments))
    files = {one.seed: one.path for one in recorded}
    if arguments.seeds:
        files = {seed: files.get(seed, arguments.again / f"seed{seed}.json") for seed in arguments.seeds}
    return BaselinePlan(spec, protocol, files, arguments.runs or _runs(spec, protocol))


def _protocol(arguments: argparse.Namespace, recorded: list[Recorded]) -> Protocol:
    return protocol_from(arguments, protocol_today(recorded[0].result.protocol))


def _checked(recorded: list[Recorded], protocol: Protocol, arguments: argparse.Namespace) -> BaselineCheck:
    choice = UpsamplerChoice(arguments.upsampler or _spec(recorded), load_options(arguments), arguments.identity)
    benchmark = _benchmark(protocol.replace(seed=recorded[0].seed), arguments)
    today = prospect_of(recorded[0].result, benchmark, choice)
    epoch = first_epoch(benchmark, choice) if getattr(arguments, "first_epoch", False) else None
    return check_baseline(recorded, today, _remake(recorded, arguments), epoch=epoch)


def _spec(recorded: list[Recorded]) -> str | None:
    """How to load the upsampler: as a file says, or by its name if that is a built-in one's."""
    names = [one.spec or str(one.result.upsampler.get("name")) for one in recorded]
    return next(
        (name for one, name in zip(recorded, names, strict=True) if one.spec or name in list_upsamplers()), None
    )


def _remake(recorded: list[Recorded], arguments: argparse.Namespace) -> str:
    """The command that makes the baseline again, with the same options."""
    folders = {one.path.parent for one in recorded}
    words = ["vfm-isbench", "baseline", "make"]
    spec = arguments.upsampler or _spec(recorded)
    if spec is None or spec != recorded[0].spec:
        words.append(spec or "UPSAMPLER")
    words += ["--again", str(folders.pop()) if len(folders) == 1 else "DIR"]
    if arguments.protocol is not None:
        words += ["--protocol", arguments.protocol]
    for name in _REPEATED:
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if arguments.datasets:
        words += ["--datasets", *arguments.datasets]
    for text in arguments.set:
        words += ["--set", text]
    return shlex.join(words)


def _benchmark(
    protocol: Protocol, arguments: argparse.Namespace, folder: Path | None = None, overwrite: bool = False
) -> Benchmark:
    return Benchmark(
        protocol,
        device=arguments.device,
        data_root=arguments.data_root,
        output_dir=folder,
        backbone_weights=arguments.backbone_weights,
        workers=getattr(arguments, "workers", 0),
        progress=not arguments.quiet,
        overwrite=overwrite,
        load_options=load_options(arguments),
        speed=speed_from(arguments),
    )


def _runs(spec: str, protocol: Protocol) -> Path:
    """Folder of the run folders: another protocol, or another revision of the rules, has another one."""
    name = re.sub(r"[^\w.-]+", "-", f"baseline-{spec}-{protocol.name}-{protocol.fingerprint()[:12]}")
    return Path("runs") / name
