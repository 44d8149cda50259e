"""``hub:OWNER/REPO[@COMMIT]:ENTRY[?key=value]``: upsamplers from repositories made for ``torch.hub``."""

from __future__ import annotations

import ast
import inspect
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from vfm_isbench.errors import ContractError, UnknownNameError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.connection import is_out_of_reach
from vfm_isbench.storage.hashing import code_sha256
from vfm_isbench.storage.locks import waiting_for
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.upsamplers.known import require_packages
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.entry_parameters import refuse_unknown_keywords
from vfm_isbench.upsamplers.loading.foreign_code import (
    RepositoryModules,
    in_place,
    load_weights,
    pick,
    require_consent,
    running,
    warn_unpinned,
    with_source,
)
from vfm_isbench.upsamplers.loading.settings import read_settings
from vfm_isbench.upsamplers.loading.specs import LOADERS, LoadOptions, split_query

GITHUB = "https://github.com"
COMMIT = re.compile(r"[0-9a-f]{40}")
DEFAULT_REF = "HEAD"
"""What GitHub calls the newest commit of the default branch."""

_COMMIT_FILE = "vfm_isbench_commit.txt"
_PLACE = re.compile(r"([\w.-]+)/([\w.-]+?)(?:@([\w./-]+))?")
_TAKEN = frozenset(inspect.signature(torch.hub.load).parameters) - {"args", "kwargs"}


def load_from_hub(text: str, options: LoadOptions) -> LoadedUpsampler:
    """Load what an entry of a repository's ``hubconf.py`` makes.

    Args:
        text: ``OWNER/REPO@COMMIT:ENTRY?key=value`` for GitHub, or ``path/to/folder:ENTRY?key=value`` for a folder that
            holds a ``hubconf.py``; a folder that exists comes first. Keys are handed to the entry, values as JSON where
            they are, otherwise as text; but ``attribute`` (dotted) says where the upsampler is in what the entry
            returns, ``style`` how it is called (``vfm_isbench.upsamplers.STYLES``) where the names of its parameters do
            not tell, ``call.key`` gives a keyword of each call, and ``then=METHOD(ARGUMENTS)`` calls a method of the
            upsampler once.
        options: Consent is needed to fetch or run anything. ``weights`` is a state dict loaded into the upsampler.

    Returns:
        The upsampler as ``(features, image)``. Its ``source`` has repository, commit (where it is known),
        entry, arguments, ``code_sha256`` of all the Python files, style, attention backend and warnings.

    Raises:
        ContractError: without consent; if a package is missing that this upsampler is known to need; if what is
            fetched is not the pinned commit; if the repository's code fails; or if it returns nothing that can be
            called.
        UnknownNameError: if the repository cannot be fetched, or has no such entry, keyword, attribute, method or
            style.
        WeightsError: if ``options.weights`` cannot be read, or does not fit.
    """
    spec = f"hub:{text}"
    name, values = split_query(text)
    query = text[len(name) :]
    place, _, entry = name.rpartition(":")
    if not place or not entry.isidentifier():
        raise UnknownNameError(
            f"upsampler {spec!r}: expected hub:OWNER/REPO@COMMIT:ENTRY or hub:path/to/folder:ENTRY, ENTRY being a "
            "function of the repository's hubconf.py"
        )
    settings = read_settings(spec, values, _TAKEN)
    folder = Path(place).expanduser()
    ref = commit = None
    if folder.is_dir():
        # Its name alone: results travel, and say nothing of the machine's folders.
        repository = folder.resolve().name
        require_consent(spec, f"{entry}() of {folder / 'hubconf.py'}", options)
        require_packages(spec, repository, folder)
    else:
        owner, project, ref = _parse_place(spec, place)
        repository = f"{owner}/{project}"
        from_where = f"{GITHUB}/{repository}, {ref or 'the newest commit of its default branch'}"
        require_consent(spec, f"{entry}() of hubconf.py from {from_where}", options)
        require_packages(spec, repository)
        folder, commit = _fetch(owner, project, ref)
        if ref is None or not COMMIT.fullmatch(ref):
            warn_unpinned(spec, f"hub:{repository}@{commit or 'COMMIT'}:{entry}{query}")
    if not (folder / "hubconf.py").is_file():
        raise UnknownNameError(f"upsampler {spec!r}: there is no hubconf.py in {folder}, which torch.hub needs")
    refuse_unknown_keywords(spec, folder, "hubconf.py", entry, settings.arguments)
    source: dict[str, Any] = {"kind": "torch.hub", "repository": repository, "ref": ref, "commit": commit}
    source |= {"entry": entry, "code_sha256": code_sha256(folder)}
    modules = RepositoryModules(folder)
    made, source["warnings"] = _call(spec, folder, modules, entry, settings.arguments)
    with in_place(modules):
        found = pick(spec, made, settings.attribute)
        if options.weights is not None:
            source["weights_sha256"] = load_weights(spec, found, options.weights)
        # In place for the method that the settings may name.
        return with_source(found, f"hub:{repository}:{entry}{query}", settings, source, modules)


def _parse_place(spec: str, place: str) -> tuple[str, str, str | None]:
    match = _PLACE.fullmatch(place)
    if match is None or place.startswith("."):
        raise UnknownNameError(
            f"upsampler {spec!r}: {place!r} is neither OWNER/REPO or OWNER/REPO@COMMIT on GitHub, nor a folder here "
            f"(seen from {Path.cwd()})"
        )
    owner, project, ref = match.groups()
    return owner, project, ref


def _fetch(owner: str, project: str, ref: str | None) -> tuple[Path, str | None]:
    """Folder of a repository in torch.hub's cache, fetched if it is not there, and its commit if that is known.

    ``torch.hub`` itself fetches, runs and prints in one step, and forgets the commit; folders are named as it does.
    """
    hub = Path(torch.hub.get_dir())
    # Without a ref, torch.hub names the folder after the default branch.
    cached = [ref] if ref is not None else [DEFAULT_REF, "main", "master"]
    for name in cached:
        folder = hub / f"{owner}_{project}_{name.replace('/', '_')}"
        if folder.is_dir():
            return folder, _commit_of(folder, folder, ref)
    if are_downloads_forbidden():
        raise UnknownNameError(f"{owner}/{project} is not in {hub}, and downloads are forbidden here")
    wanted = ref or DEFAULT_REF
    folder = hub / f"{owner}_{project}_{wanted.replace('/', '_')}"
    url = f"{GITHUB}/{owner}/{project}/archive/{wanted}.zip"
    hub.mkdir(parents=True, exist_ok=True)
    try:
        with waiting_for(hub / f"{folder.name}.lock", f"downloading {owner}/{project}"):
            if folder.is_dir():  # by now
                return folder, _commit_of(folder, folder, ref)
            commit = _fetch_archive(url, folder, ref)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnknownNameError(
            f"{url} could not be fetched ({type(error).__name__}: {error}). Check the repository's name and commit. "
            f"Without a network, put a copy of it at {folder}, or give its folder: hub:path/to/folder:ENTRY"
        ) from error
    return folder, commit


def _fetch_archive(url: str, folder: Path, ref: str | None) -> str | None:
    """Download and unpack a repository into a new folder, and return its commit if that is known."""
    if is_out_of_reach(url):
        raise ConnectionError(f"{urlsplit(url).hostname} cannot be reached")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        archive, content = Path(temporary) / "repository.zip", Path(temporary) / "content"
        torch.hub.download_url_to_file(url, str(archive), progress=False)
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(content)
            comment = zipped.comment.decode(errors="replace")  # git writes the commit there
        (top,) = content.iterdir()
        (top / _COMMIT_FILE).write_text(comment)  # not atomic: the whole folder is moved into place
        commit = _commit_of(top, url, ref)
        top.rename(folder)  # not atomic: a folder; torch.hub fetches it again if it is damaged
    return commit


def _commit_of(folder: Path, origin: Path | str, ref: str | None) -> str | None:
    """What the archive said of its commit; of a folder that came otherwise, what it was put there as."""
    pinned = ref if ref is not None and COMMIT.fullmatch(ref) else None
    noted = folder / _COMMIT_FILE
    if not noted.is_file():
        return pinned
    said = noted.read_text().strip()
    commit = said if COMMIT.fullmatch(said) else None
    if None not in (pinned, commit) and commit != pinned:
        raise ContractError(
            f"{origin} is not commit {pinned}, but says that it is {commit}. Nothing of it was run; check the commit, "
            "and who serves that address. A folder in the cache of torch.hub can be deleted and fetched again"
        )
    return commit


def _call(
    spec: str, folder: Path, modules: RepositoryModules, entry: str, arguments: dict[str, Any]
) -> tuple[Any, list[str]]:
    with running(f"loading upsampler {spec!r}") as warned, in_place(modules):
        try:
            made = torch.hub.load(str(folder), entry, source="local", **arguments)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "Cannot find callable" not in str(error):
                raise
            raise unknown_name(f"entry of {folder / 'hubconf.py'}", entry, _entries(folder) or ["none"]) from error
    return made, warned


def _entries(folder: Path) -> list[str]:
    """Public functions that a repository's ``hubconf.py`` defines or imports by name, read without running it."""
    names = []
    for node in ast.parse((folder / "hubconf.py").read_bytes()).body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return [name for name in names if not name.startswith("_")]


LOADERS.add("hub", load_from_hub)
