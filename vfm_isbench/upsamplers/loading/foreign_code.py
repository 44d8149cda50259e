"""Running other people's repositories: only with consent, among their own modules, and with a record of what ran."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.upsamplers.freezing import find_module
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import Style, adapt, detect_keywords, detect_style, to_contract
from vfm_isbench.upsamplers.loading.specs import LoadOptions


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
    )
    return LoadedUpsampler(ForeignCall(loaded.call, {"name": name, **source}, modules), name, source, able)


@dataclass(frozen=True, slots=True)
class Settings:
    """What stands behind the question mark.

    Attributes:
        style: How the upsampler is called; None to tell it from the names of its parameters.
        attribute: Where the upsampler is in what was loaded: attributes, or indices of a tuple, joined by dots.
        arguments: Everything else, for the function or class that is called.
    """

    style: str | None
    attribute: str
    arguments: dict[str, Any]


def read_settings(spec: str, values: Mapping[str, str], taken: Collection[str]) -> Settings:
    """Read values as JSON where they are, otherwise as text; ``style`` and ``attribute`` are ours.

    Args:
        spec: What the user wrote, for messages.
        values: Texts by key.
        taken: Keys that would reach the loading library instead of the code that is loaded.

    Raises:
        UnknownNameError: for a key in ``taken``.
    """
    arguments = {key: _json_or_text(value) for key, value in values.items() if key not in ("style", "attribute")}
    for key in arguments:
        if key in taken:
            raise UnknownNameError(
                f"upsampler {spec!r}: {key!r} cannot be given, it is set by the loader; leave it out"
            )
    return Settings(values.get("style"), values.get("attribute", ""), arguments)


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


def with_source(
    found: Any,
    name: str,
    settings: Settings,
    source: Mapping[str, Any],
    modules: RepositoryModules | None = None,
) -> LoadedUpsampler:
    """Adapt what was loaded to ``(features, image)``, and declare its name and source.

    Raises:
        UnknownNameError: if the settings name a style that does not exist.
    """
    by_keyword = detect_keywords(found) if settings.style is None else None
    style = cast(Style, settings.style) if settings.style is not None else detect_style(found)
    complete = {
        **source,
        "attribute": settings.attribute or None,
        "arguments": settings.arguments,
        "style": style,
        "attention": attention_backend(found),
    }
    adapted = adapt(found, style) if by_keyword is None else to_contract(found)
    return from_elsewhere(adapted, name, complete, modules)


def attention_backend(upsampler: object) -> dict[str, Any]:
    """What can be told about the attention an upsampler computes with: NATTEN and its replacements differ slightly.

    Returns:
        ``natten``: the version installed, or "not installed"; ``modules``: the classes of its modules whose name or
        place speaks of attention, which tell whether AnyUp, say, uses NATTEN or goes without.
    """
    try:
        natten = version("natten")
    except PackageNotFoundError:
        natten = "not installed"
    module = find_module(upsampler)
    classes = {f"{type(part).__module__}.{type(part).__qualname__}" for part in module.modules()} if module else set()
    return {"natten": natten, "modules": sorted(name for name in classes if "atten" in name.lower())}


def _take_out(names: Collection[str]) -> dict[str, ModuleType]:
    """Remove packages from ``sys.modules``; returns their modules by name."""
    found = [name for name in sys.modules.copy() if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
