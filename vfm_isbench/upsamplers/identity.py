"""Which upsampler was it? A name, and a fingerprint of its code, settings and weights if one can be taken."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Literal

from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.fingerprint import UnreadableError, fingerprint
from vfm_isbench.upsamplers.freezing import find_module
from vfm_isbench.upsamplers.loaded import DECLARED_IDENTITY, LoadedUpsampler


@dataclass(frozen=True, slots=True)
class UpsamplerIdentity:
    """What a result says about its upsampler.

    Attributes:
        name: Declared or registered name, otherwise module:qualname.
        kind: "module" if it is or wraps an ``nn.Module``; "function" or "object" (a callable instance) if not.
        sha256: Hexadecimal fingerprint; None if it cannot be established. Runs of such an upsampler are never resumed,
            and never combined with others.
        source: Where code and weights came from, as the upsampler declares (``upsampler_source``); None if it does not.
    """

    name: str
    kind: Literal["module", "function", "object"]
    sha256: str | None
    source: Mapping[str, Any] | None = None


def identity_of(upsampler: Upsampler | LoadedUpsampler, declared: str | None = None) -> UpsamplerIdentity:
    """Establish the identity of an upsampler; call it after the contract check, when lazy weights are there.

    See :mod:`vfm_isbench.upsamplers.fingerprint` for what the fingerprint covers. Equal fingerprints mean the same
    upsampler; different ones may differ in a comment only.

    Args:
        upsampler: The upsampler.
        declared: What the user says it is, in place of a fingerprint; upsamplers say it by :data:`DECLARED_IDENTITY`.
    """
    loaded = LoadedUpsampler.of(upsampler)
    kind: Literal["module", "function", "object"] = "object"
    if find_module(loaded.call) is not None:
        kind = "module"
    elif isinstance(loaded.call, (FunctionType, BuiltinFunctionType, MethodType, functools.partial)):
        kind = "function"
    whole = (loaded.call, loaded.hidden_modules) if loaded.hidden_modules else loaded.call
    if declared is None and loaded.declared_identity is not None:
        said = loaded.declared_identity
        declared = said if isinstance(said, str) else str(said())
    sha256 = fingerprint_of(whole, declared)
    return UpsamplerIdentity(loaded.name, kind, sha256, loaded.source)


def fingerprint_of(value: Any, declared: str | None = None) -> str | None:
    """Fingerprint of any callable or module; None if it cannot be established."""
    if declared is not None:
        return hashlib.sha256(f"declared {declared}".encode()).hexdigest()
    try:
        return fingerprint(value)
    except UnreadableError:
        return None


def why_unidentified(upsampler: Upsampler | LoadedUpsampler) -> str:
    """A sentence on why an upsampler has no fingerprint, and what would give it one."""
    reason = "nothing is missing"
    try:
        fingerprint(LoadedUpsampler.of(upsampler).call)
    except UnreadableError as error:
        reason = str(error)
    return (
        f"the upsampler has no fingerprint ({reason}), so this run cannot be resumed, its seeds cannot be combined and "
        "its entry cannot be verified; say which upsampler it is with identity=TEXT (command line: --identity TEXT), "
        f"or by an attribute {DECLARED_IDENTITY}, and change that text whenever code or weights change"
    )
