"""Stage: clicks at the paper's size: upsamplers, injections, precisions and lockstep sizes, and where the time goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from cases import Case, SomeObjects, evaluated, evaluation_datasets, probe_of, protocol_of
from profiling import profiled
from stages import Stage

from vfm_isbench import Speed
from vfm_isbench.acceleration.speed import Precision
from vfm_isbench.probe import Probe

CASES = tuple(
    Case(upsampler, injection)  # type: ignore[arg-type]
    for upsampler, injection in (
        ("bilinear", "late"), ("loftup", "late"), ("loftup", "early"), ("bilinear", "early"), ("featup", "late"),
        ("identity", "late"), ("featup", "early"), ("identity", "early"),
    )
)  # fmt: skip
_PROFILED = 4
_CLICKS = 20
_PROFILED_CLICKS = 3
_MOST_OBJECTS = 64


@dataclass(frozen=True)
class Run:
    """What is evaluated, and how."""

    case: Case
    precision: Precision = "float32"
    objects_at_once: int | None = None
    clicks_on_device: bool | None = None

    def __str__(self) -> str:
        together = "" if self.objects_at_once is None else f", {self.objects_at_once} objects at once"
        user = "" if self.clicks_on_device is None else f", clicks on the device: {self.clicks_on_device}"
        return f"evaluation, {self.case}, {self.precision}{together}{user}"

    def speed(self) -> Speed:
        """The speed settings."""
        return Speed(
            precision=self.precision, objects_at_once=self.objects_at_once, clicks_on_device=self.clicks_on_device
        )


def measure(stage: Stage) -> None:
    """Measure the most important cases first."""
    cases = [case for case in CASES if stage.size.takes(case.upsampler)]
    first = [Run(case) for case in cases[:3]]
    for run in first:
        _measure(stage, run)
    for case in cases[:_PROFILED]:
        stage.attempt(
            f"profile of clicks, {case}",
            lambda case=case: stage.add("evaluation_profiles", profile_of(stage, Run(case))),  # type: ignore[misc]
            2.5 * stage.size.case_seconds,
        )
    precisions: tuple[Precision, ...] = ("bfloat16", "tf32") if stage.device.type == "cuda" else ("bfloat16",)
    rough = [Run(run.case, precision) for precision in precisions for run in first]
    other_user = Run(cases[0], clicks_on_device=stage.device.type != "cuda")
    others = [Run(case) for case in cases[3:]]
    swept = [case for case in cases[:3] if case != Case("loftup", "late")]
    sweeps = [Run(case, "float32", together) for case in swept for together in stage.size.objects_at_once]
    for run in [*rough[:3], other_user, *others, *sweeps, *rough[3:]]:
        _measure(stage, run)


def _measure(stage: Stage, run: Run) -> None:
    stage.attempt(str(run), lambda: stage.add("evaluation", clicked(stage, run)), 2.5 * stage.size.case_seconds)


def clicked(stage: Stage, run: Run) -> dict[str, Any]:
    """Evaluate objects with all their clicks; as many objects as fit into the time of a case."""
    together = run.speed().lockstep(stage.device)
    probe = probe_of(run.case, protocol_of(run.case, stage.options), stage.device)
    _evaluate(stage, probe, run, together, 2)  # loads kernels
    per_click = _evaluate(stage, probe, run, together, 2).per_click
    wanted = stage.size.case_seconds / (per_click * _CLICKS * together)
    clicks = _CLICKS if wanted >= 1 else max(2, int(_CLICKS * wanted))
    objects = together * max(1, min(int(wanted), _MOST_OBJECTS // together))
    if stage.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(stage.device)
    found = _evaluate(stage, probe, run, objects, clicks)
    peak = torch.cuda.max_memory_allocated(stage.device) if stage.device.type == "cuda" else None
    return {
        "upsampler": run.case.upsampler,
        "injection": run.case.injection,
        "precision": run.precision,
        "objects_at_once": together,
        "clicks_on_device": run.speed().places_clicks_on(stage.device),
        "is_default": run.objects_at_once is None and run.clicks_on_device is None,
        "objects": objects,
        "clicks": clicks,
        "seconds_per_click": found.per_click,
        "clicking_per_click": found.times.clicking / found.times.clicks,
        "peak_bytes": peak,
    }


def profile_of(stage: Stage, run: Run) -> dict[str, Any]:
    """Where the time of the first clicks of a group of objects goes."""
    together = run.speed().lockstep(stage.device)
    probe = probe_of(run.case, protocol_of(run.case, stage.options), stage.device)
    objects = 2 * together
    _evaluate(stage, probe, run, objects, _PROFILED_CLICKS)
    found = profiled(
        lambda: _evaluate(stage, probe, run, objects, _PROFILED_CLICKS), stage.device, objects * _PROFILED_CLICKS
    )
    return {"upsampler": run.case.upsampler, "injection": run.case.injection, **found}


def _evaluate(stage: Stage, probe: Probe, run: Run, objects: int, clicks: int) -> Any:
    protocol = protocol_of(run.case, stage.options, max_clicks=clicks)
    (dataset,) = evaluation_datasets(stage.options, protocol)
    began = time.perf_counter()
    found = evaluated(probe, SomeObjects(dataset, 0, objects), protocol, run.speed())
    print(f"    {objects} objects × {clicks} clicks: {time.perf_counter() - began:.2f} s", flush=True)
    return found
