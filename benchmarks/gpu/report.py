"""The report of the acceptance program: tables of what the stages found, and what a whole run would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

EPOCHS, TRAINING_IMAGES = 20, 8498
"""Of the paper's protocol."""

PAPER_OBJECTS, SBD_OBJECTS, CLICKS = 7166, 6671, 20
"""All four test sets together; SBD val alone; clicks on every object."""

TARGET_HOURS = {("bilinear", "float32"): 1.5, ("loftup", "float32"): 3.0}
TARGET_HOURS |= {(name, "bfloat16"): hours / 2 for (name, _), hours in TARGET_HOURS.items()}
TARGET_SBD_MINUTES = 25.0
TARGET_BUSY = 0.8
_GIB = 2**30

Findings = Mapping[str, Any]


def markdown(results: Findings) -> str:
    """The whole report, of whatever is there so far."""
    stages = results["stages"]
    sections = [_introduction(results), _stages(stages)]
    parts: list[tuple[str, str, Callable[[Findings], str]]] = [
        ("extrapolation", "A whole run", lambda _: _extrapolation(stages)),
        ("tests", "Tests", _tests),
        ("card", "The card", _card),
        ("evaluation", "Clicks", _evaluation),
        ("training", "Training", _training),
        ("convolutions", "The head's 3×3 convolution", _convolutions),
    ]
    for name, title, write in parts:
        try:
            body = write(stages.get(name, {}).get("findings", {}))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            body = f"This part of the report could not be written: {type(error).__name__}: {error}"
        if body:
            sections.append(f"## {title}\n\n{body}")
    return "\n\n".join(sections) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; empty without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "/").replace("\n", " ")


def _introduction(results: Findings) -> str:
    small = " **Only the program itself was tried out, in tiny sizes: the figures mean nothing.**"
    machine = results["stages"].get("card", {}).get("findings", {}).get("machine", {})
    software = f"PyTorch {machine.get('torch')}, CUDA {machine.get('cuda')}" if machine else "unknown software"
    return (
        f"# Acceptance on a GPU, {results['date']}\n\n"
        f"`python benchmarks/gpu/acceptance.py` on {results['card']}; {software}; commit {results['commit']}; "
        f"{results['seconds']:.0f} s.{small if results['small'] else ''}\n\n"
        "Weights are random, photographs are generated in the layout of SBD. s/click includes reading the images."
    )


def _stages(stages: Findings) -> str:
    rows, details = [], []
    for name, stage in stages.items():
        findings = stage.get("findings", {})
        left_out = findings.get("left_out", [])
        rows.append([name, stage["outcome"], f"{stage['seconds']:.0f}", len(findings.get("errors", [])), len(left_out)])
        details += [f"- {name}: {error}" for error in findings.get("errors", [])]
        if left_out:
            details.append(f"- {name}: no time for {'; '.join(left_out)}")
        if stage.get("last_lines"):
            lines = "\n".join(f"    {line}" for line in stage["last_lines"])
            details.append(f"- {name} ended with\n\n{lines}\n")
    return "\n\n".join(
        ["## Stages", table(["stage", "outcome", "s", "errors", "left out"], rows), "\n".join(details)]
    ).strip()


def _tests(found: Findings) -> str:
    if not found:
        return ""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found["counts"].items())
    return "\n".join([f"`pytest -m cuda`: {counts}.", "", *(f"- {test}" for test in found["not_passed"])]).strip()


def _card(found: Findings) -> str:
    rows = [[key, value] for key, value in found.items() if key not in ("machine", "errors", "left_out")]
    return table(["", ""], rows)


def _evaluation(found: Findings) -> str:
    rows = [
        [
            f"{row['upsampler']} {row['injection']}",
            row["precision"],
            f"{row['objects_at_once']}{' (default)' if row['is_default'] else ''}",
            "device" if row["clicks_on_device"] else "CPU",
            f"{row['objects']} × {row['clicks']}",
            1000 * row["seconds_per_click"],
            1000 * row["clicking_per_click"],
            _gib(row["peak_bytes"]),
        ]
        for row in found.get("evaluation", [])
    ]
    head = [
        "case", "precision", "objects at once", "clicks placed on the", "objects × clicks", "ms/click",
        "of it clicks on the CPU", "peak, GiB",
    ]  # fmt: skip
    profiles = found.get("evaluation_profiles", [])
    return _joined(table(head, rows), _profiles(profiles, "click"), *(_top(row, "click") for row in profiles))


def _training(found: Findings) -> str:
    rows = [
        [
            f"{row['upsampler']} {row['injection']}", row["precision"], row["workers"] or "memory", row["batch_size"],
            row["images_per_second"], _gib(row["peak_bytes"]),
        ]
        for row in found.get("training", [])
    ]  # fmt: skip
    samples, text = found.get("samples"), ""
    if samples:
        text = (
            f"Samples without a network: {samples['alone_per_second']:.0f} per second in one process, "
            f"{samples['workers_per_second']:.0f} with {samples['workers']} workers."
        )
    head = ["case", "precision", "workers", "batch", "images/s", "peak, GiB"]
    profiles = found.get("training_profiles", [])
    return _joined(table(head, rows), text, _profiles(profiles, "image"), *(_top(row, "image") for row in profiles))


def _profiles(profiles: Sequence[Findings], unit: str) -> str:
    rows = [
        [
            f"{row['upsampler']} {row['injection']}", _percent(row["busy_share"]), _percent(row["products_share"]),
            row["kernels_each"], row["copies_each"]["to_device"], row["copies_each"]["from_device"], row["tflops"],
            row["gflop_each"],
        ]
        for row in profiles
    ]  # fmt: skip
    head = [
        "case", "GPU busy", "of it products", f"kernels per {unit}", f"copies to the device per {unit}", "back",
        "TFLOP/s", f"GFLOP per {unit}",
    ]  # fmt: skip
    return table(head, rows)


def _top(row: Findings, unit: str) -> str:
    rows = [[kernel["name"], _percent(kernel["share"]), kernel["each"]] for kernel in row["top"]]
    heading = f"{row['upsampler']} {row['injection']}: kernels that take longest"
    return table([heading, "share", f"per {unit}"], rows)


def _convolutions(found: Findings) -> str:
    rows = [
        [row["batch"], row["precision"], row["way"], row["forward_ms"], row["both_ms"], row["tflops"], row["deviation"]]
        for row in found.get("convolutions", [])
    ]
    head = ["batch", "precision", "way", "forward, ms", "with backward, ms", "forward, TFLOP/s", "deviation"]
    return table(head, rows)


def whole_runs(stages: Findings) -> list[dict[str, Any]]:
    """Hours of the paper's protocol by upsampler and precision (late injection), and what bounds them."""
    evaluation = stages.get("evaluation", {}).get("findings", {})
    training = stages.get("training", {}).get("findings", {})
    clicks = {
        (row["upsampler"], row["precision"]): row["seconds_per_click"]
        for row in evaluation.get("evaluation", [])
        if row["injection"] == "late" and row["is_default"]
    }
    images: dict[tuple[str, str], float] = {}
    for row in training.get("training", []):
        if row["injection"] == "late" and not row["workers"]:
            images[row["upsampler"], row["precision"]] = row["images_per_second"]
    loader = (training.get("samples") or {}).get("workers_per_second")
    runs = []
    for key in dict.fromkeys([*clicks, *images]):
        rate = images.get(key)
        fed = rate if rate is None or loader is None else min(rate, loader)
        trained = None if fed is None else EPOCHS * TRAINING_IMAGES / fed / 3600
        clicked = None if key not in clicks else PAPER_OBJECTS * CLICKS * clicks[key] / 3600
        runs.append(
            {
                "upsampler": key[0],
                "precision": key[1],
                "training_hours": trained,
                "training_bound": _bound(training.get("training_profiles"), key[0], rate, loader),
                "evaluation_hours": clicked,
                "evaluation_bound": _bound(evaluation.get("evaluation_profiles"), key[0], None, None),
                "hours": None if trained is None or clicked is None else trained + clicked,
                "target_hours": TARGET_HOURS.get(key),
                "sbd_minutes": None if key not in clicks else SBD_OBJECTS * CLICKS * clicks[key] / 60,
            }
        )
    return runs


def _bound(profiles: Sequence[Findings] | None, upsampler: str, rate: float | None, loader: float | None) -> str | None:
    """What limits the speed: the workers, the program that feeds the GPU, or the GPU itself."""
    if rate is not None and loader is not None and loader < rate:
        return "workers"
    for row in profiles or []:
        if row["upsampler"] == upsampler and row["injection"] == "late" and row["busy_share"] is not None:
            return "GPU" if row["busy_share"] >= TARGET_BUSY else "host"
    return None


def _extrapolation(stages: Findings) -> str:
    rows = [
        [
            run["upsampler"], run["precision"], run["training_hours"], run["training_bound"], run["evaluation_hours"],
            run["evaluation_bound"], run["hours"], _against(run["hours"], run["target_hours"]), run["sbd_minutes"],
            _against(run["sbd_minutes"], TARGET_SBD_MINUTES if run["upsampler"] == "bilinear" else None),
        ]
        for run in whole_runs(stages)
    ]  # fmt: skip
    head = [
        "upsampler, late", "precision", "training, h", "bound by", "evaluation, h", "bound by", "paper, h", "target",
        "SBD val, min", "target",
    ]  # fmt: skip
    measured = _cell(stages.get("card", {}).get("findings", {}).get("matmul_float32_tflops"))
    busy = [
        f"- GPU busy in {part}, {row['upsampler']} {row['injection']}: {_percent(row['busy_share'])} (target "
        f"{_percent(TARGET_BUSY)}); {_cell(row['tflops'])} TFLOP/s, of {measured} in float32 matrix products"
        for part in ("evaluation", "training")
        for row in stages.get(part, {}).get("findings", {}).get(f"{part}_profiles", [])
        if row["busy_share"] is not None
    ]
    if not rows and not busy:
        return ""
    work = (
        f"{EPOCHS} epochs of {TRAINING_IMAGES} images, and {PAPER_OBJECTS} objects with {CLICKS} clicks each; training "
        "without validation, samples as fast as the workers of this machine make them."
    )
    return _joined(work, table(head, rows), "\n".join(busy))


def _against(value: float | None, target: float | None) -> str | None:
    if value is None or target is None:
        return None
    return f"≤ {target:g}: {'met' if value <= target else 'missed'}"


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"


def _gib(count: int | None) -> float | None:
    return None if count is None else count / _GIB
