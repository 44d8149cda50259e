"""From what a user writes to an upsampler: a built-in name, ``package.module:attribute`` or ``file.py:attribute``."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchError, WeightsError
from vfm_isbench.registry.plugins import Plugin, Plugins
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.storage.printable import printable
from vfm_isbench.upsamplers.base import UPSAMPLERS, Upsampler
from vfm_isbench.upsamplers.loaded import FILE_MARK, LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import (
    FEATURE_NAMES,
    IMAGE_NAMES,
    detect_keywords,
    detect_style,
    to_contract,
)
from vfm_isbench.upsamplers.loading.foreign_code import (
    attention_backend,
    fit,
    from_elsewhere,
    mentions_natten,
    pick,
)
from vfm_isbench.upsamplers.loading.settings import (
    Settings,
    check_keywords,
    declared_with,
    read_settings,
    require_no_arguments,
)
from vfm_isbench.upsamplers.loading.specs import LOADERS, OWN_LOADERS, LoadOptions, split_query
from vfm_isbench.upsamplers.violations import check_callable

UPSAMPLER_PLUGINS = Plugins(
    "upsampler",
    "vfm_isbench.upsamplers",
    "an upsampler (features, image), or a class or function that makes one when called without arguments",
    lambda: [*UPSAMPLERS, *LOADERS],
)


def load_upsampler(upsampler: str | Upsampler, options: LoadOptions | None = None) -> LoadedUpsampler:
    """Resolve an upsampler, once, from its name or from the callable itself.

    Args:
        upsampler: A callable, or the name of one. Names are: a built-in ("bilinear"); an installed plugin; a loader
            and what it loads, such as ``loftup:dinov2s`` or ``hub:OWNER/REPO:ENTRY``; ``package.module:attribute``; or
            ``path/to/file.py:attribute``. The attribute (dotted if need be) is an upsampler (function, module, any
            callable), or a class or function that makes one when called without arguments. A function counts as a
            maker if it can be called without arguments, and neither with two nor with names that suggest features
            or images. Behind all but plugins may follow ``?key=value``, keywords of the maker, with which it then is
            called; see :mod:`vfm_isbench.upsamplers.loading.settings` for what else may stand there.
        options: Weights and consent for loaders; by default no weights of the user's own, and no foreign code.

    Returns:
        The upsampler, adapted to ``(features, image)`` if the names of its parameters show another style.

    Raises:
        UnknownNameError: if there is no such built-in, module, file, attribute or keyword.
        ContractError: if importing or making it fails, or if it cannot be called as an upsampler.
        PluginError: the same for a plugin, or if packages disagree about what the name means.
    """
    if not isinstance(upsampler, str):
        check_callable(upsampler)
        return to_contract(upsampler)
    spec = upsampler
    shown = printable(repr(spec), 300)
    kind, colon, rest = spec.partition(":")
    if colon and kind in LOADERS:
        try:
            return LoadedUpsampler.of(LOADERS.get(kind)(rest, options or LoadOptions()))
        except OSError as error:  # for example because a name is too long for any file
            raise WeightsError(f"upsampler {shown} cannot be loaded: {printable(str(error), 300)}") from error
    if options is not None and options.weights is not None:
        raise UnknownNameError(
            f"upsampler {spec!r} has no weights to replace: leave out {options.weights}, or name an upsampler of a "
            f"kind that takes weights: {', '.join(LOADERS)}"
        )
    if spec in LOADERS:
        raise UnknownNameError(f"{spec!r} is a kind of upsampler: write {spec}:NAME, see vfm-isbench list upsamplers")
    if colon and (meant := difflib.get_close_matches(kind, list(LOADERS), n=1)) and "." not in kind:
        raise UnknownNameError(f"there is no kind of upsampler {kind!r}; did you mean {meant[0]}:{rest}?")
    name, values = split_query(spec)
    source, colon, attribute = name.rpartition(":")
    if colon and source and attribute:
        return _from_attribute(spec, name, _find_attribute(spec, source, attribute), read_settings(spec, values))
    if spec.removesuffix(":").endswith(".py"):
        raise UnknownNameError(
            f"{spec!r} names a file but not what is in it; write {spec.removesuffix(':')}:attribute, the attribute "
            "being the upsampler"
        )
    if name in UPSAMPLERS and values:
        return _from_attribute(spec, name, UPSAMPLERS.get(name), read_settings(spec, values, ("style", "attribute")))
    if spec not in UPSAMPLERS:
        return _from_plugin(UPSAMPLER_PLUGINS.find(spec, UPSAMPLERS.hint))
    UPSAMPLER_PLUGINS.warn_if_refused(spec)
    return LoadedUpsampler.of(UPSAMPLERS.get(spec)())


def _from_attribute(spec: str, name: str, found: Any, settings: Settings) -> LoadedUpsampler:
    """The upsampler that an attribute is or makes; settings count in its name, source and identity."""
    made = make(spec, found, settings)
    if not settings:
        loaded = _with_attention(to_contract(made))
        # A lambda and a function made inside another have no name that says anything.
        return dataclasses.replace(loaded, name=name.rpartition(":")[2]) if "<" in loaded.name else loaded
    style, loaded = fit(spec, pick(spec, made, settings.attribute), settings)
    loaded = _with_attention(loaded)
    short = name.rpartition(":")[2] if "<" in loaded.name or name in UPSAMPLERS else loaded.name
    query = spec[len(name) :]
    record = {
        "attribute": settings.attribute or None,
        "arguments": settings.arguments,
        **settings.record(),
        "style": style,
    }
    source = {"kind": "built-in" if name in UPSAMPLERS else "own", **(loaded.source or {}), **record}
    declared = declared_with(loaded.declared_identity, settings)
    if loaded.capabilities.channel_norm is None and not (name in UPSAMPLERS and not settings.call):
        loaded = from_elsewhere(loaded, loaded.name, record)
    return dataclasses.replace(loaded, name=f"{short}{query}", source=source, declared_identity=declared)


def _with_attention(loaded: LoadedUpsampler) -> LoadedUpsampler:
    """Record NATTEN's version in source and identity of an upsampler whose code speaks of it."""
    if not mentions_natten(loaded.call) or loaded.capabilities.channel_norm is not None:
        return loaded
    record = {"attention": attention_backend(loaded.call)}
    declared = loaded.declared_identity
    wrapped = from_elsewhere(loaded, loaded.name, record)
    return dataclasses.replace(wrapped, source={**(loaded.source or {}), **record}, declared_identity=declared)


def _find_attribute(spec: str, source: str, attribute: str) -> Any:
    """What a dotted attribute of a module or a file is."""
    found: Any = module_from_file(spec, Path(source)) if source.endswith(".py") else module_by_name(spec, source)
    for name in attribute.split("."):
        if not hasattr(found, name):
            names = [known for known in dir(found) if not known.startswith("_")]
            raise unknown_name(f"attribute of {source} in upsampler {spec!r}:", name, names or ["nothing public"])
        found = getattr(found, name)
    return found


def _from_plugin(plugin: Plugin) -> LoadedUpsampler:
    """The upsampler of a plugin, with the name it is used by and where it came from."""
    found = plugin.load()
    try:
        loaded = _with_attention(to_contract(make(plugin.name, found, Settings())))
    except ContractError as error:
        raise plugin.error(f"is no upsampler: {error}") from error
    source = {"kind": "plugin", **(loaded.source or {}), "plugin": plugin.origin()}
    if loaded.capabilities.channel_norm is None:
        loaded = from_elsewhere(loaded, plugin.name, source)
    return dataclasses.replace(loaded, name=plugin.name, source=source, plugin_origin=plugin.origin())


def make(spec: str, found: Any, settings: Settings) -> Any:
    """Turn a class or a factory into what it makes with the keywords given; leave an upsampler as it is."""
    if not callable(found):
        raise ContractError(
            f"upsampler {spec!r} is of type {type(found).__name__}, which cannot be called; name a callable "
            "(features, image), or a class or function that makes one"
        )
    if settings.arguments and (isinstance(found, type) or inspect.isroutine(found)):
        check_keywords(spec, f"{getattr(found, '__qualname__', found)}()", found, settings.arguments)
    elif not _is_maker(spec, found):
        require_no_arguments(spec, settings)
        return found
    try:
        made = found(**settings.arguments)
    except VfmIsbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise ContractError(f"making upsampler {spec!r} failed with {type(error).__name__}: {error}") from error
    if not callable(made) and not settings.attribute:
        raise ContractError(
            f"{spec!r}, called without arguments, made something of type {type(made).__name__}, which cannot be "
            "called as an upsampler (features, image)"
        )
    return made


def _is_maker(spec: str, found: Any) -> bool:
    if isinstance(found, nn.Module):
        return False
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return isinstance(found, type)
    if isinstance(found, type):
        if not _binds(signature, 0):
            raise ContractError(
                f"upsampler {spec!r} is a class that needs arguments {signature}; write a function without parameters "
                "that returns a ready instance, and name that"
            )
        return True
    if detect_style(found) != "features_image" or detect_keywords(found) is not None:
        return False
    if _binds(signature, 0):
        named = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
        takes_two = takes_any or (len(named) >= 2 and named[0].name in FEATURE_NAMES | IMAGE_NAMES)
        return not takes_two
    if not _binds(signature, 2):
        raise ContractError(
            f"upsampler {spec!r} has the parameters {signature}; expected (features, image), or none for a function "
            "that makes an upsampler. For other styles see vfm_isbench.upsamplers.adapt"
        )
    return False


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def module_by_name(spec: str, name: str) -> ModuleType:
    """Import a module that the upsampler ``spec`` names; errors say what to do."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise UnknownNameError(
                f"upsampler {spec!r}: there is no module {missing!r} on Python's path; install it, set PYTHONPATH to "
                "its folder, or give the file as path/to/file.py:attribute"
            ) from error
        raise _import_failed(spec, name, error) from error
    except Exception as error:
        raise _import_failed(spec, name, error) from error


def module_from_file(spec: str, path: Path) -> ModuleType:
    """Import the file that the upsampler ``spec`` names, once per content; errors say what to do."""
    try:
        path = path.expanduser().resolve()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise UnknownNameError(
            f"upsampler {spec!r}: cannot read the file {path} ({error.strerror}); check the path, which is taken from "
            f"{Path.cwd()}"
        ) from error
    # Pickle and dataclasses look modules up in sys.modules. "@" is in no importable name, so this one hides no other;
    # and the content's digest, unlike the path, is the same on every machine.
    name = f"{path.stem}{FILE_MARK}{digest}"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_failed(spec, str(path), error) from error
    return module


def _import_failed(spec: str, source: str, error: Exception) -> ContractError:
    hint = ""
    if isinstance(error, ImportError):
        package = f"install it (pip install {error.name.partition('.')[0]}), or, for " if error.name else "for "
        hint = f"; {package}a module beside it, set PYTHONPATH to its folder"
    return ContractError(f"upsampler {spec!r}: importing {source} failed with {type(error).__name__}: {error}{hint}")


def is_own(spec: str) -> bool:
    """Whether a name means an upsampler of this library, so that loading it runs no other code; a plugin's does not."""
    return spec.partition("?")[0] in UPSAMPLERS or spec.partition(":")[0] in OWN_LOADERS


def recorded_spec(spec: str | None) -> dict[str, Any]:
    """What a checkpoint keeps of what the user called an upsampler: the text, and the hash of the file if any."""
    path = _file_of(spec) if spec else None
    return {"spec": spec, **({} if path is None else {"file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()})}


def is_unchanged_here(recorded: Mapping[str, Any]) -> bool:
    """Whether what :func:`recorded_spec` kept names a file below the current folder that is still the same.

    A checkpoint may be anybody's, and must not choose which code runs: nothing but files that the user works on counts,
    and no file that has changed since.
    """
    spec, sha256 = recorded.get("spec"), recorded.get("file_sha256")
    path = _file_of(spec) if isinstance(spec, str) else None
    if path is None or not isinstance(sha256, str) or not path.is_relative_to(Path.cwd()):
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _file_of(spec: str) -> Path | None:
    """The file in a name ``path/to/file.py:attribute``; None if the name is of another form, or there is no file."""
    source, colon, attribute = spec.partition("?")[0].rpartition(":")
    if not (colon and attribute and source.endswith(".py")):
        return None
    path = Path(source).expanduser().resolve()
    return path if path.is_file() else None


def list_upsamplers() -> dict[str, str]:
    """Names of the built-in upsamplers, each with the first sentence of its description."""
    return {name: (inspect.getdoc(UPSAMPLERS.get(name)()) or "").splitlines()[0] for name in UPSAMPLERS}
