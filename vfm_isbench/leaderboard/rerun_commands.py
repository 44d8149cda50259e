"""The commands that run an entry again: installation, data sets, one run per training seed.

An entry's texts come from whoever submits it. They are quoted for the shell, and a spec that would be read as an option
gives no command at all. Nothing here is ever run by this library.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vfm_isbench.datasets.download.sources import source_for
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.protocol import Protocol, versions_of
from vfm_isbench.results import Result
from vfm_isbench.upsamplers import is_own

PINNED = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow")
"""Packages whose versions can change numbers, as results record them."""

DATA = "DATA"
"""Stands for the reader's folder of data sets."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(
    r"(?P<kind>hub|hf):(?P<place>(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<ref>[\w./-]+))?)(?=[:?]|$)"
)
_VERSION = re.compile(r"\d[0-9A-Za-z.]*")
_BY_OPTION = {"object_limit": "--limit", "backbone": "--backbone", "click_encoder": "--click-encoder"}


def rerun_commands(entry: Entry, repository: str | None = None) -> list[str] | None:
    """Commands that run every seed of an entry again, in the versions it was measured with; one line each.

    The library itself is installed from a checkout, in its present version: a protocol gives the same numbers in all
    versions that know it.

    Args:
        entry: The entry.
        repository: Web address of this library's repository; None if it has none.

    Returns:
        None if nobody recorded how to load the upsampler, or if this library does not know the protocol.
    """
    spec = spec_to_show(entry)
    preset = versions_of(entry.protocol.name).get(entry.protocol.version)
    if spec is None or preset is None:
        return None
    lines = [*clone(repository), _install(entry.runs[0])]
    downloads = datasets_to_download(entry.protocol)
    if downloads:
        lines.append(shlex.join(["vfm-isbench", "data", "download", *downloads, "--data-root", DATA]))
    return [*lines, *(shlex.join(_run(run, spec, preset)) for run in entry.runs)]


def clone(repository: str | None) -> list[str]:
    """The command that fetches this library; none if its repository has no address."""
    return [] if repository is None else [f"git clone {shlex.quote(repository)} vfm_isbench && cd vfm_isbench"]


def reproduce_command(entry: Entry) -> str:
    """The command that runs every seed again and compares each score; it needs a checkout with the entry."""
    words = ["vfm-isbench", "leaderboard", "reproduce", entry.id]
    spec = spec_to_show(entry)
    if spec is None or not is_own(spec):
        words += ["--upsampler", spec or "UPSAMPLER"]
    if datasets_to_download(entry.protocol):
        words += ["--data-root", DATA]
    return shlex.join([*words, *(_loading(spec, entry.upsampler) if spec else ())])


def spec_to_show(entry: Entry) -> str | None:
    """What to write after ``vfm-isbench run``; None if nobody recorded it, or if it would be read as an option.

    A branch or tag of a repository is replaced by the commit that the runs recorded, because it may have moved since.
    """
    name = str(entry.upsampler["name"])
    spec = entry.spec or (name if is_own(name) else None)
    return None if spec is None or spec.startswith("-") else _pinned(spec, entry.runs)


def moving_reference(spec: str | None) -> str | None:
    """The repository that a spec names without a commit, as in ``author/mine@main``; None if it is pinned.

    >>> moving_reference("hub:author/mine@main:mine"), moving_reference("hf:author/mine")
    ('author/mine@main', 'author/mine')
    >>> moving_reference("bilinear"), moving_reference(f"hub:author/mine@{'0' * 40}:mine")
    (None, None)
    """
    match = _REPOSITORY.match(spec or "")
    return None if match is None or _COMMIT.fullmatch(match["ref"] or "") else match["place"]


def _pinned(spec: str, runs: Sequence[Result]) -> str:
    """The spec, at the commit that all runs recorded for the repository it names."""
    match = _REPOSITORY.match(spec)
    sources = [run.upsampler.get("source") for run in runs]
    commits = {str(source.get("commit")) for source in sources if isinstance(source, Mapping)}
    repositories = {source.get("repository") for source in sources if isinstance(source, Mapping)}
    if match is None or moving_reference(spec) is None or repositories != {match["repository"]} or len(commits) != 1:
        return spec
    (commit,) = commits
    if not _COMMIT.fullmatch(commit):
        return spec
    return f"{match['kind']}:{match['repository']}@{commit}{spec[match.end() :]}"


def datasets_to_download(protocol: Protocol) -> list[str]:
    """Names for ``vfm-isbench data download``; empty if the package contains all data."""
    sources = (source_for(name) for name in (*protocol.test_datasets, protocol.train_dataset))
    return list(dict.fromkeys(source.name for source in sources if source is not None))


def _install(run: Result) -> str:
    versions = {package: str(run.environment.get(package) or "").partition("+")[0] for package in PINNED}
    pinned = [f"{package}=={version}" for package, version in versions.items() if _VERSION.fullmatch(version)]
    return shlex.join(["python", "-m", "pip", "install", ".", *pinned])


def _run(run: Result, spec: str, preset: Protocol) -> Iterator[str]:
    protocol = run.protocol
    yield from ("vfm-isbench", "run", spec, "--protocol", preset.label)
    for field in protocol.changed_fields():
        value = getattr(protocol, field)
        if field in _BY_OPTION and value is not None:
            yield from (_BY_OPTION[field], str(value))
        elif field != "test_datasets":
            yield from ("--set", f"{field}={json.dumps(value)}")
    if protocol.test_datasets != preset.test_datasets:
        yield from ("--datasets", *protocol.test_datasets)
    if datasets_to_download(protocol):
        yield from ("--data-root", DATA)
    yield from _loading(spec, run.upsampler)
    if precision := run.speed.get("precision"):
        yield from ("--precision", str(precision))
    stop = next((found.stop_at_iou for found in run.datasets.values() if found.stop_at_iou), None)
    if stop:
        yield from ("--stop-at-iou", *map(str, stop))
    yield from ("--seed", str(protocol.seed))


def _loading(spec: str, upsampler: Mapping[str, Any]) -> Iterator[str]:
    """Options of upsamplers from repositories; WEIGHTS stands for a file of the submitter's."""
    kind = spec.partition(":")[0]
    source = upsampler.get("source")
    source = source if isinstance(source, Mapping) else {}
    own_class = kind == "hf" and "code_sha256" in source and source["code_sha256"] is None
    if kind in ("hub", "hf", "code") and not own_class:
        yield "--trust-remote-code"
    if kind in ("hub", "code") and "weights_sha256" in source:
        yield from ("--upsampler-weights", "WEIGHTS")
