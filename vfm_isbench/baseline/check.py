"""Whether a baseline still holds: would the same seeds give the same numbers today?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vfm_isbench.baseline.prospect import Prospect
from vfm_isbench.baseline.recorded import Recorded
from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.protocol import PROTOCOL_REVISION
from vfm_isbench.results import Result, why_incomparable
from vfm_isbench.results.comparability import unchecked
from vfm_isbench.results.environment_difference import library_differences, rounding_differences, unrecorded
from vfm_isbench.results.sides import named_seeds
from vfm_isbench.training import EpochRecord
from vfm_isbench.types import is_number

Effect: TypeAlias = Literal["other", "rounding", "same", "upsampler", "unchecked"]
"""What a finding does to the numbers of the same seeds: other numbers; the same up to rounding; nothing; only what the
regression test is for; unknown."""

Change: TypeAlias = Literal["same", "code", "behaviour", "unknown"]
"""What became of an upsampler: the recorded one; other code that computes the same; it computes something else."""

_SAME_COURSE = 0.01
"""Largest relative difference in loss and IoU of a first epoch that counts as the same course. On one machine, versions
0.3.0 and 0.4.0 differ by 1e-6 (demo@1). With another CPU capability, 2e-2 was measured (demo@2), as much as between
some seeds, so a larger difference says nothing if the machine differs, too."""

_MARKS: Mapping[Effect, str] = {
    "other": "other numbers",
    "rounding": "rounding",
    "same": "the same",
    "upsampler": "upsampler",
    "unchecked": "not checked",
}

_MEANING = {
    "same": "the baseline holds: nothing but the upsampler can change a number. The recorded upsampler, run again with "
    "these seeds, gives the same numbers bit for bit, and regress passes it because nothing differs.",
    "rounding": "the baseline holds up to rounding: rules, data and weights are the recorded ones, but last digits may "
    "differ, and training makes more of them.",
    "other": "numbers may differ for reasons other than the upsampler.",
}
_MEANING_UNLESS_COMPLETE = {
    "same": "nothing that was checked differs, but not everything could be checked: whether the same seeds give the "
    "same numbers is open.",
    "rounding": "as far as it could be checked, only last digits may differ, and training makes more of them.",
    "other": _MEANING["other"],
}
"""The same where something was not checked."""

_ROUNDING_ADVICE = (
    "The same seeds may then differ as much as other seeds, or more, and the margin of regress must cover that. It is "
    "safer to make the baseline again where the results are made"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is recorded and today.

    Attributes:
        effect: What it does to the numbers.
        text: One sentence.
        seeds: Seeds whose results it concerns.
    """

    effect: Effect
    text: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class BaselineCheck:
    """Outcome of :func:`check_baseline`.

    Attributes:
        seeds: Seeds of the baseline.
        findings: All differences, the worst first.
        upsampler: What became of the upsampler.
        remake: The command that makes the baseline again.
    """

    seeds: tuple[int, ...]
    findings: tuple[Finding, ...]
    upsampler: Change
    remake: str

    @property
    def numbers(self) -> Literal["same", "rounding", "other"]:
        """What the same seeds would give today, as far as it was checked."""
        effects = {finding.effect for finding in self.findings}
        return "other" if "other" in effects else "rounding" if "rounding" in effects else "same"

    @property
    def is_complete(self) -> bool:
        """Whether everything that could change a number was checked."""
        return all(finding.effect != "unchecked" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """1 if the baseline must be made again, else 0."""
        return int(self.numbers == "other")

    def __str__(self) -> str:
        meaning = (_MEANING if self.is_complete else _MEANING_UNLESS_COMPLETE)[self.numbers]
        lines = [f"baseline of {named_seeds(self.seeds)}: {meaning}"]
        for finding in self.findings:
            where = "" if finding.seeds == self.seeds else f" ({named_seeds(finding.seeds)})"
            lines.append(f"{_MARKS[finding.effect]}: {finding.text}{where}")
        if self.numbers == "other":
            lines.append(f"make the baseline again with: {self.remake}")
        elif self.numbers == "rounding":
            lines.append(f"{_ROUNDING_ADVICE}: {self.remake}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return {
            "numbers": self.numbers,
            "is_complete": self.is_complete,
            "exit_code": self.exit_code,
            "seeds": list(self.seeds),
            "upsampler": self.upsampler,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "remake": self.remake,
        }


def check_baseline(
    baseline: Sequence[Recorded], today: Prospect, remake: str = "", *, epoch: EpochRecord | None = None
) -> BaselineCheck:
    """Compare the results of a baseline with what a run would record today.

    Reasons for other numbers are those for which :func:`vfm_isbench.regress` would refuse to compare, and another
    revision of the library's rules. What results do not record (training data, and code that changed numbers without
    raising the revision) shows only in the first epoch trained again.

    Args:
        baseline: Results, one per seed.
        today: What a run would record.
        remake: The command that makes the baseline again.
        epoch: The first epoch of the first seed, trained again, see :func:`vfm_isbench.baseline.first_epoch`.
    """
    seeds: dict[tuple[Effect, str], list[int]] = {}
    for recorded in baseline:
        for finding in dict.fromkeys(_findings(recorded, today, is_trained=epoch is not None)):
            seeds.setdefault(finding, []).append(recorded.seed)
    if epoch is not None:
        seeds[_course(baseline[0].result, today.result, epoch)] = [baseline[0].seed]
    order = list(_MARKS)
    findings = [Finding(effect, text, tuple(of)) for (effect, text), of in seeds.items()]
    changes = [upsampler_change(recorded.result, today.result) for recorded in baseline]
    return BaselineCheck(
        tuple(recorded.seed for recorded in baseline),
        tuple(sorted(findings, key=lambda finding: order.index(finding.effect))),
        next((change for change in changes if change != "same"), "same"),
        remake,
    )


def upsampler_change(before: Result, now: Result) -> Change:
    """What became of an upsampler, by its hash and its behaviour on fixed inputs."""
    hashes = before.upsampler.get("sha256"), now.upsampler.get("sha256")
    behaviours = before.upsampler.get("behaviour"), now.upsampler.get("behaviour")
    if differs(*behaviours, _devices(before, now)):
        return "behaviour"
    if None not in hashes and hashes[0] == hashes[1]:
        return "same"
    return "code" if all(behaviours) and None not in hashes else "unknown"


def _findings(recorded: Recorded, today: Prospect, *, is_trained: bool) -> Iterator[tuple[Effect, str]]:
    before, now = recorded.result, today.result
    if recorded.revision != PROTOCOL_REVISION:
        yield (
            "other",
            f"the baseline follows revision {recorded.revision} of this library's rules, the installed version "
            f"{PROTOCOL_REVISION}: numbers changed that no field of the protocol describes",
        )
    for dataset in before.datasets:
        for reason in why_incomparable(before, now, dataset):
            yield "other", f"baseline and today: {reason}"
    yield from _rounding(before, now, is_trained=is_trained)
    yield from _upsampler(before, now)
    for text in today.unchecked:
        yield "unchecked", text
    # That upsamplers have no hash is said above; the message about combining results does not apply here.
    for dataset in before.datasets:
        for remark in unchecked(before, now, dataset):
            if not remark.startswith("upsamplers"):
                yield "unchecked", remark


def _rounding(before: Result, now: Result, *, is_trained: bool) -> Iterator[tuple[Effect, str]]:
    then, today = [before.environment], [now.environment]
    if then[0].get("vfm_isbench") is None:
        yield "rounding", f"the baseline does not say which version made it; today's is {today[0].get('vfm_isbench')}"
    same_version = then[0].get("vfm_isbench") == today[0].get("vfm_isbench")
    for text in library_differences(then, today):
        if same_version:
            how = "The first epoch shows" if is_trained else "--first-epoch trains the first epoch again, which shows"
            yield "unchecked", f"{text}. {how} what that changes in training, but not in evaluation"
        else:
            yield "rounding", f"in the baseline and today, under the same revision of the rules: {text}"
    if changed := rounding_differences(then, today):
        yield "rounding", f"other packages or another machine, in the baseline and today: {'; '.join(changed)}"
    if missing := unrecorded(before.environment, now.environment, same_version=same_version):
        yield "unchecked", f"the baseline does not record {', '.join(missing)}; a baseline made again does"


def _upsampler(before: Result, now: Result) -> Iterator[tuple[Effect, str]]:
    change = upsampler_change(before, now)
    if change == "behaviour":
        yield "upsampler", "it computes other features than the recorded one: the regression test judges this change"
    elif change == "code":
        yield (
            "upsampler",
            "its code, settings or packages are not the recorded ones, but it computes the same features for the same "
            "input",
        )
    elif change == "unknown" and "sha256" in now.upsampler:
        yield "upsampler", "nobody can tell whether it is the recorded one: a hash or its behaviour is missing"


def _course(before: Result, now: Result, epoch: EpochRecord) -> tuple[Effect, str]:
    """What the first epoch says, trained again."""
    what = "the first epoch, trained again,"
    if upsampler_change(before, now) not in ("same", "code"):
        return "unchecked", f"{what} says nothing, because the upsampler is not the recorded one"
    if not before.training:
        return "unchecked", f"{what} has nothing to be compared with: the baseline has no record of its training"
    then = [value for name in ("loss", "iou") if is_number(value := before.training[0].get(name))]
    if len(then) < 2:
        return "unchecked", f"{what} has nothing to be compared with: the baseline's record of it lacks loss or IoU"
    today = [epoch.loss, epoch.iou]
    if then == today:
        return "same", f"{what} has the recorded loss and IoU, bit for bit: {today[0]:.6g} and {today[1]:.6g}"
    far = max(abs(value - other) / max(abs(other), 1e-12) for value, other in zip(today, then, strict=True))
    shown = f"loss {then[0]:.6g} in the baseline, {today[0]:.6g} today; IoU {then[1]:.6g} and {today[1]:.6g}"
    if far <= _SAME_COURSE:
        return "rounding", f"{what} differs by {far:.0e}, as rounding makes it: {shown}"
    if rounding_differences([before.environment], [now.environment]):
        return (
            "unchecked",
            f"{what} differs by {far:.0%}, which rounding on another machine or with other packages can make: {shown}. "
            "Check on a machine like the baseline's, or make the baseline again on this one",
        )
    return "other", f"{what} takes another course: {shown}"


def _devices(first: Result, second: Result) -> tuple[str | None, str | None]:
    return first.environment.get("device"), second.environment.get("device")
