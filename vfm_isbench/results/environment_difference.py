"""How the environments of results differ, which decides the last digits; and a key of this one, for caches."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ROUNDING = {
    "cpu": "processor",
    "cpu_capability": "CPU capability",
    "threads": "threads",
    "device": "device",
    "cuda": "CUDA",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
    "scipy": "scipy",
    "pillow": "pillow",
}
"""Parts of the environment that decide the last digits, and how messages call them."""

Environment = Mapping[str, Any]


def rounding_differences(first: Sequence[Environment], second: Sequence[Environment]) -> list[str]:
    """What differs in hardware and packages, as "threads 1 and 2"; what either side does not record is left out.

    Args:
        first: Environments of one or more results.
        second: Those of the results they are compared with.
    """
    named = {name: [_values(side, part) for side in (first, second)] for part, name in ROUNDING.items()}
    named["system"] = [_distinct(map(_system, side)) for side in (first, second)]
    return [
        f"{name} {_joined(mine)} and {_joined(theirs)}"
        for name, (mine, theirs) in named.items()
        if mine and theirs and set(mine) != set(theirs)
    ]


def unrecorded(before: Environment, now: Environment, *, same_version: bool) -> list[str]:
    """What decides the last digits, is known now and not recorded before.

    Args:
        before: Environment of an earlier result.
        now: Environment of today.
        same_version: Whether the version of this library is the same, so that its code may have been edited.
    """
    parts = {**ROUNDING, "platform": "system"}
    if same_version:
        parts["vfm_isbench_code"] = "hash of this library's code"
    return [name for part, name in parts.items() if before.get(part) is None and now.get(part) is not None]


def library_differences(first: Sequence[Environment], second: Sequence[Environment]) -> list[str]:
    """Whether another version of this library, or edited code of the same version, made the results."""
    versions = [_values(side, "vfm_isbench") for side in (first, second)]
    if all(versions) and set(versions[0]) != set(versions[1]):
        return [
            f"vfm_isbench {_joined(versions[0])} and {_joined(versions[1])}; the changelog says whether scores change"
        ]
    code = [_values(side, "vfm_isbench_code") for side in (first, second)]
    if all(code) and set(code[0]) != set(code[1]):
        hashes = [_joined([one[:12] for one in side]) for side in code]
        return [
            f"the code of vfm_isbench {_joined(versions[0])} that takes part in a run was edited in between: the "
            f"version is the same, its hash is {hashes[0]} and {hashes[1]}. Numbers may differ for that reason alone"
        ]
    return []


def environment_remarks(
    labels: tuple[str, str], first: Sequence[Environment], second: Sequence[Environment]
) -> list[str]:
    """Remarks for readers of a comparison; none if nothing differs that is recorded.

    Args:
        labels: Names of both sides.
        first: Environments of the results of the first side.
        second: Those of the second.
    """
    where = " and ".join(labels)
    remarks = [f"{where}: {text}" for text in library_differences(first, second)]
    if parts := rounding_differences(first, second):
        remarks.append(
            f"{where} were measured in different environments ({'; '.join(parts)}): last digits differ, and training "
            "makes more of them, so the same seed differs like another seed"
        )
    return remarks


def environment_key(environment: Environment) -> str:
    """A name for all that decides the last digits, without blanks and commas: the key of a cached baseline.

    Args:
        environment: As a result records it.
    """
    parts = [environment.get(part) for part in (*ROUNDING, "vfm_isbench", "vfm_isbench_code")]
    digest = hashlib.sha256(json.dumps([*parts, _system(environment)]).encode()).hexdigest()
    device = environment["device"]
    words = [environment["cpu"], environment["cpu_capability"], f"{environment['threads']} threads"]
    words += [*([] if device == "cpu" else [device]), f"torch {environment['torch']}"]
    words += [f"vfm_isbench {environment['vfm_isbench']}", digest[:12]]
    return re.sub(r"[^\w.+-]+", "-", " ".join(map(str, words))).strip("-").lower()


def _system(environment: Environment) -> str | None:
    """Operating system and C library, without the kernel's version, which decides no digit."""
    text = environment.get("platform")
    if not isinstance(text, str):
        return None
    library = re.search(r"-with-(\S+)$", text)
    return text.partition("-")[0] + (f" {library[1]}" if library else "")


def _values(side: Sequence[Environment], part: str) -> list[str]:
    return _distinct(environment.get(part) for environment in side)


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _joined(values: Sequence[str]) -> str:
    return "/".join(values)
