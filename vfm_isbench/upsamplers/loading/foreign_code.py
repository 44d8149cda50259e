"""Running other people's repositories: only with consent, among their own modules, and with a record of what ran."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from vfm_isbench.errors import ContractError, VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.weights import read_state_dict
from vfm_isbench.upsamplers.freezing import find_module
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import (
    Style,
    adapt,
    detect_keywords,
    detect_style,
    given_names,
    to_contract,
)
from vfm_isbench.upsamplers.loading.settings import Settings, with_call_keywords
from vfm_isbench.upsamplers.loading.specs import LoadOptions
from vfm_isbench.upsamplers.published.checkpoint_keys import load_exactly

_NATTEN = "natten"
_LIBRARIES = frozenset({"torch", "vfm_isbench", "builtins"})
"""Packages whose code need not be read for NATTEN."""


class RepositoryModules(ModuleType):
    """The Python modules of one repository, in ``sys.modules`` only while its code runs: see :func:`in_place`.

    Several of these repositories call their package ``src`` (JAFAR, NAF): otherwise the second one loaded would
    silently get code of the first.

    It is a module itself, so that an upsampler's fingerprint has its name alone: what has been imported, and from which
    folder, says nothing of what is computed. The code counts by :func:`vfm_isbench.registry.plugins.code_sha256`.

    Args:
        folder: The repository.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("modules of a repository")
        self.folder = str(folder.resolve())
        files = {path.stem for path in folder.glob("*.py")}
        packages = {path.name for path in folder.iterdir() if path.is_dir() and next(path.rglob("*.py"), None)}
        self.names = (files | packages) - sys.stdlib_module_names
        self.loaded: dict[str, ModuleType] = {}
        importlib.invalidate_caches()  # the folder may be newer than what Python knows of it


@contextlib.contextmanager
def in_place(modules: RepositoryModules | None) -> Iterator[None]:
    """Let code import the modules of its own repository, whatever is loaded under the same names.

    What was there before has its place back afterwards, and the repository's own are kept for the next time.
    """
    if modules is None:
        yield
        return
    others = _take_out(modules.names)
    sys.modules.update(modules.loaded)
    sys.path.insert(0, modules.folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the repository's code may have tidied up itself
            sys.path.remove(modules.folder)
        modules.loaded = _take_out(modules.names)
        sys.modules.update(others)


@dataclass(frozen=True)
class ForeignCall:
    """A function of somebody else's code, called while the modules of its repository can be imported.

    Attributes:
        call: The function.
        record: What is known of the code; it counts in the upsampler's fingerprint.
        modules: What the code may import while it runs; None if it is of no repository.
    """

    call: Callable[..., Any]
    record: Mapping[str, Any]
    modules: RepositoryModules | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        with in_place(self.modules):
            return self.call(*arguments)


@dataclass(frozen=True)
class ForeignStrips(ForeignCall):
    """The same for a function that yields strips: between two strips, other code runs with its own modules."""

    def __call__(self, *arguments: Any) -> Strips:
        """Yield the strips."""
        strips = iter(super().__call__(*arguments))
        while True:
            with in_place(self.modules):
                strip = next(strips, None)
            if strip is None:
                return
            yield strip


def from_elsewhere(
    loaded: LoadedUpsampler, name: str, source: Mapping[str, Any], modules: RepositoryModules | None = None
) -> LoadedUpsampler:
    """Give an upsampler of other people its name and source, and every one of its functions its modules."""
    able = loaded.capabilities
    able = dataclasses.replace(
        able,
        encode_guidance=able.encode_guidance and ForeignCall(able.encode_guidance, source, modules),
        upsample=able.upsample and ForeignCall(able.upsample, source, modules),
        upsample_strips=able.upsample_strips and ForeignStrips(able.upsample_strips, source, modules),
        bind_backbone=able.bind_backbone and ForeignCall(able.bind_backbone, source, modules),
    )
    return LoadedUpsampler(ForeignCall(loaded.call, {"name": name, **source}, modules), name, source, able)


def require_consent(spec: str, code: str, options: LoadOptions) -> None:
    """Stop here unless the user allows code of other people to run.

    Raises:
        ContractError: saying which ``code`` it is, and how to allow it.
    """
    if not options.trust_remote_code:
        raise ContractError(
            f"upsampler {spec!r} would run code of other people on this machine, with all your rights: {code}. Nothing "
            "was fetched or run. If you have read that code, or trust who wrote it, allow it with --trust-remote-code "
            "(in Python: LoadOptions(trust_remote_code=True))"
        )


def warn_unpinned(spec: str, pinned: str) -> None:
    """Warn that a name stands for whatever its repository holds at the time."""
    message = f"upsampler {spec!r} is not pinned to a commit, so its results may not repeat; pin it: {pinned}"
    warnings.warn(message, VfmIsbenchWarning, stacklevel=3)


@contextlib.contextmanager
def running(what: str) -> Iterator[list[str]]:
    """Run foreign code: what it prints goes to stderr, what it warns of is passed on and kept, errors become ours.

    Warnings matter: JAFAR goes on with random weights after one, AnyUp with another attention than asked for.

    Args:
        what: What is being done, for messages ("loading …").

    Yields:
        A list that holds the texts of its warnings afterwards.

    Raises:
        ContractError: if the code raises, or wants to end the program.
    """
    texts: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("always")
            yield texts
    except VfmIsbenchError:
        raise
    except (Exception, SystemExit) as error:
        packages = _missing_packages(error)
        hint = f"; install what is missing beside this library: pip install {packages}" if packages else ""
        raise ContractError(f"{what} failed with {type(error).__name__}: {error}{hint}") from error
    of_use = [str(one.message) for one in caught if issubclass(one.category, (UserWarning, RuntimeWarning))]
    texts.extend(dict.fromkeys(of_use))
    for text in texts:
        warnings.warn(f"{what}: {text}", VfmIsbenchWarning, stacklevel=3)


def _missing_packages(error: BaseException) -> str:
    """What to install after an error, as words for ``pip install``; empty if it is another error."""
    if isinstance(error, ImportError):
        return (error.name or "PACKAGE").partition(".")[0]
    _, found, names = str(error).partition("Missing dependencies:")  # in these words, torch.hub names all of them
    return " ".join(names.replace(",", " ").split()) if found else ""


def pick(spec: str, made: Any, attribute: str) -> Any:
    """Follow a dotted ``attribute`` into what was loaded.

    Raises:
        UnknownNameError: if there is no such attribute or index; the message lists what there is.
        ContractError: if what it leads to cannot be called.
    """
    found = made
    for name in attribute.split(".") if attribute else []:
        indexed = {str(i): part for i, part in enumerate(found)} if isinstance(found, (tuple, list)) else {}
        if name not in indexed and not hasattr(found, name):
            inside = dict(found.named_children()) if isinstance(found, nn.Module) else indexed or dir(found)
            public = [known for known in inside if not known.startswith("_")]
            raise unknown_name(f"attribute of what {spec!r} loads:", name, public or ["none"])
        found = indexed[name] if name in indexed else getattr(found, name)
    if not callable(found):
        holds = f" ({', '.join(type(part).__name__ for part in found)})" if isinstance(found, (tuple, list)) else ""
        raise ContractError(
            f"{spec!r} loads something of type {type(found).__name__}{holds}, which cannot be called as an upsampler; "
            "say where in it the upsampler is, as in ?attribute=upsampler or, in a tuple, ?attribute=0"
        )
    return found


def load_weights(spec: str, found: Any, path: Path, key: str | None = None) -> str:
    """Load a weights file, or the part of it called ``key``, into an upsampler; returns the file's SHA-256.

    Raises:
        ContractError: if the upsampler is no module.
        WeightsError: if the file cannot be read, or does not fit exactly.
    """
    if not isinstance(found, nn.Module):
        raise ContractError(f"{spec!r} loads no module but a {type(found).__name__}, so no weights can be put into it")
    load_exactly(found, read_state_dict(path, key), str(path), "the module's own state dict")
    return hash_file(path)


def with_source(
    found: Any,
    name: str,
    settings: Settings,
    source: Mapping[str, Any],
    modules: RepositoryModules | None = None,
) -> LoadedUpsampler:
    """Adapt what was loaded to ``(features, image)``, and declare its name and source.

    Raises:
        UnknownNameError: if the settings name a style, a method or a keyword that does not exist.
    """
    style, adapted = fit(name, found, settings)
    complete = {
        **source,
        "attribute": settings.attribute or None,
        "arguments": settings.arguments,
        **settings.record(),
        "style": style,
        "attention": attention_backend(found),
    }
    return from_elsewhere(adapted, name, complete, modules)


def fit(spec: str, found: Any, settings: Settings) -> tuple[str, LoadedUpsampler]:
    """Call the method that the settings name, and adapt an upsampler to ``(features, image)``; also gives its style.

    Raises:
        UnknownNameError: if the settings name a style, a method or a keyword that does not exist.
        ContractError: if the method fails.
    """
    if settings.then is not None:
        with running(f"{settings.then} of upsampler {spec!r}"):
            settings.then.run(spec, found)
    by_keyword = detect_keywords(found) if settings.style is None else None
    style = settings.style if settings.style is not None else detect_style(found)
    if not settings.call:
        return style, adapt(found, cast(Style, style)) if by_keyword is None else to_contract(found)
    used = given_names(found, cast(Style, style)) if by_keyword is None else by_keyword.names
    with_keywords = with_call_keywords(spec, found, settings.call, used)
    if by_keyword is None:
        return style, adapt(with_keywords, cast(Style, style))
    call = dataclasses.replace(by_keyword, upsampler=with_keywords.call)
    return style, dataclasses.replace(with_keywords, call=call)


def attention_backend(upsampler: object) -> dict[str, Any]:
    """What can be told about the attention an upsampler computes with: NATTEN and its replacements differ slightly.

    Returns:
        ``natten``: the version installed, or "not installed", or that it fails to import; ``modules``: the classes of
        its modules whose name or place speaks of attention, which tell whether AnyUp, say, uses NATTEN or goes without.
    """
    natten = _natten()
    module = find_module(upsampler)
    classes = {f"{type(part).__module__}.{type(part).__qualname__}" for part in module.modules()} if module else set()
    return {"natten": natten, "modules": sorted(name for name in classes if "atten" in name.lower())}


def mentions_natten(upsampler: object) -> bool:
    """Whether the code of a module's classes, or of a function, imports NATTEN or asks whether it is there."""
    module = find_module(upsampler)
    kinds = {type(part) for part in module.modules()} if module is not None else {type(upsampler)}
    names = {kind.__module__ for kind in kinds} | {str(getattr(upsampler, "__module__", ""))}
    return any(_NATTEN in _text_of(name) for name in sorted(names) if name.partition(".")[0] not in _LIBRARIES)


def _text_of(name: str) -> str:
    """The text of a loaded Python module; empty if it has none."""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file.endswith(".py") else ""
    except OSError:
        return ""


def _natten() -> str:
    try:
        installed = version("natten")
    except PackageNotFoundError:
        return "not installed"
    try:
        importlib.import_module("natten")
    except Exception:  # a build for another version of PyTorch or CUDA fails in many ways
        return f"{installed}, which fails to import"
    return installed


def _take_out(names: Collection[str]) -> dict[str, ModuleType]:
    """Remove packages from ``sys.modules``; returns their modules by name."""
    found = [name for name in sys.modules.copy() if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}
