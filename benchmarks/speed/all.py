"""Measure everything about speed with one command, and write a dated report.

    python benchmarks/speed/all.py --data-root DATA --parity RECORDED --folder speed-results

Runs ratios.py, memory.py, growth.py, distances.py, parts.py and, given trained models, precision.py in turn, each in
its own process. It keeps their values as JSON in the folder and writes benchmarks/reports/DATE-speed.md with pictures
next to it. Nothing else should run on the machine. --report-only rewrites the report from the values in the folder.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from timing import machine_line

from vfm_isbench.storage.atomic import write_bytes, write_text

HERE = Path(__file__).resolve().parent
PROGRAMS = ("ratios", "memory", "growth", "distances", "parts", "precision")
TITLES = {
    "ratios": "How many times sooner",
    "memory": "Peak memory",
    "growth": "Growth",
    "distances": "Distance transforms",
    "parts": "Where the time goes",
    "precision": "Less precise arithmetic",
}
_PICTURES = ("growth", "parts")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--folder", type=Path, required=True, help="where to keep the values of each program")
    made.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    made.add_argument(
        "--data-root", type=Path, help="folder with GrabCut/, Berkeley/, … (default: the embedded scenes)"
    )
    made.add_argument("--parity", type=Path, help="folder with recorded models in end_to_end/, for ratios.py")
    made.add_argument(
        "--models", type=Path, nargs="+", help="trained models for precision.py, which is skipped without them"
    )
    made.add_argument("--backbone", help="passed to every program")
    made.add_argument("--image-size", type=int, help="passed to every program")
    made.add_argument("--rounds", type=int, help="passed to every program")
    made.add_argument("--device", help="passed to every program")
    made.add_argument("--batch-size", type=int, help="images per training step")
    made.add_argument("--clicks", type=int, help="passed to ratios.py and parts.py")
    made.add_argument("--slow-clicks", type=int, help="passed to ratios.py and parts.py")
    for program in PROGRAMS:
        made.add_argument(
            f"--{program}",
            default="",
            metavar="OPTIONS",
            help=f"options for {program}.py, as in --{program}='--rounds 7'",
        )
    made.add_argument("--remarks", type=Path, help="Markdown to put at the end of the report")
    made.add_argument("--report", type=Path, help="default: benchmarks/reports/DATE-speed.md")
    made.add_argument("--report-only", action="store_true", help="only write the report")
    return made


def command_of(program: str, options: argparse.Namespace) -> list[str]:
    """The command that runs a program."""
    taken = {name: getattr(options, name) for name in ("data_root", "backbone", "image_size", "rounds", "device")}
    if program in ("ratios", "memory", "parts"):
        taken["batch_size"] = options.batch_size
    if program in ("ratios", "parts"):
        taken |= {"clicks": options.clicks, "slow_clicks": options.slow_clicks}
    if program == "ratios":
        taken["parity"] = options.parity
    taken["json"] = options.folder / f"{program}.json"
    if program in _PICTURES:
        taken["picture"] = options.folder / f"{program}.svg"
    given = {f"--{name.replace('_', '-')}": str(value) for name, value in taken.items() if value is not None}
    words = [word for pair in given.items() for word in pair]
    if program == "precision":
        words += ["--models", *map(str, options.models)]
    return [sys.executable, str(HERE / f"{program}.py"), *words, *shlex.split(getattr(options, program))]


def write_report(options: argparse.Namespace, report: Path) -> None:
    """Write the report from the values in the folder, without programs that have none."""
    found: dict[str, dict[str, Any]] = {}
    for program in PROGRAMS:
        path = options.folder / f"{program}.json"
        if path.is_file():
            found[program] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{options.folder} contains none of {', '.join(f'{program}.json' for program in PROGRAMS)}")
    report.parent.mkdir(parents=True, exist_ok=True)
    sections = [_introduction(found, report)]
    for program, results in found.items():
        module: Any = importlib.import_module(program)
        body = module.markdown(results, _fastest_click(found)) if program == "distances" else module.markdown(results)
        sections.append(f"## {TITLES[program]}\n\n{body}")
        picture = options.folder / f"{program}.svg"
        if picture.is_file():
            beside = report.with_name(f"{report.stem}-{program}.svg")
            write_bytes(beside, picture.read_bytes())
            sections.append(f"![{TITLES[program]}]({beside.name})")
    if options.remarks:
        sections.append(options.remarks.read_text(encoding="utf-8").strip())
    write_text(report, "\n\n".join(sections) + "\n")


def _introduction(found: dict[str, dict[str, Any]], report: Path) -> str:
    machines = list(dict.fromkeys(machine_line(results["machine"]) for results in found.values()))
    rounds = sorted({results["options"]["rounds"] for results in found.values()})
    options = next(iter(found.values()))["options"]
    data = "photographs" if options["data_root"] else "the embedded scenes"
    return (
        f"# Speed, {report.stem.removesuffix('-speed')}\n\n`python benchmarks/speed/all.py` on {'; '.join(machines)}. "
        f"{options['backbone']} with random weights, {options['image_size']}×{options['image_size']}, {data}, float32."
        "\n\nThe slow way runs the whole network for every click (`Speed(shortcut=False)`); the fast way is the "
        f"default. Values are medians of {' to '.join(map(str, rounds))} rounds, with minimum and maximum in brackets. "
        "Both ways alternate within each round; ratios are ratios of medians."
    )


def _fastest_click(found: dict[str, dict[str, Any]]) -> float | None:
    """Seconds per click of the fastest case, if ratios were measured."""
    rows = found.get("ratios", {}).get("evaluation", [])
    return min((statistics.median(row["fast"]) for row in rows), default=None)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    today = datetime.date.today().isoformat()
    report = options.report or HERE.parent / "reports" / f"{today}-speed.md"
    if not options.report_only:
        for program in options.programs:
            if program == "precision" and not options.models:
                continue
            command = command_of(program, options)
            print(f"\n$ {shlex.join(command[1:])}", flush=True)
            subprocess.run(command, check=True)
    write_report(options, report)
    print(f"\nwritten: {report}")


if __name__ == "__main__":
    main()
