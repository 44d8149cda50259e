"""What stands behind the question mark of an upsampler's name: ``?width=384&call.q_chunk_size=100&then=enable(4)``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.upsamplers.loaded import LoadedUpsampler

CALL = "call."
"""Beginning of the keys that are keywords of every call."""

_OURS = ("style", "attribute", "then")
_METHOD = re.compile(r"([A-Za-z]\w*)\((.*)\)")
_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)")
_TEXT = re.compile(r"[\w./@+-]+")
_WORDS = {"true": True, "false": False, "none": None}
_LITERALS = "numbers, true, false, none and plain text (letters, digits and _ . / @ + -)"


@dataclass(frozen=True, slots=True)
class MethodCall:
    """A method that is called once after loading.

    Attributes:
        name: Its name.
        places: Positional arguments.
        keywords: Arguments by name.
    """

    name: str
    places: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, spec: str, text: str) -> MethodCall:
        """Read ``name(1, 0.5, true, none, text, key=value)`` without evaluating anything.

        Raises:
            UnknownNameError: for any other form, and for private names.

        Example:
            >>> MethodCall.read("x", "enable_iterative(4, mode=fast)")
            MethodCall(name='enable_iterative', places=(4,), keywords={'mode': 'fast'})
        """
        match = _METHOD.fullmatch(text.strip())
        if match is None:
            raise UnknownNameError(
                f"upsampler {spec!r}: expected then=METHOD(ARGUMENTS) with a public method and {_LITERALS} as "
                f"arguments, as in then=enable_iterative(4), got then={text}"
            )
        name, inside = match.groups()
        places: list[Any] = []
        keywords: dict[str, Any] = {}
        for part in inside.split(",") if inside.strip() else []:
            keyword = _KEYWORD.fullmatch(part.strip())
            if keyword is None and not keywords:
                places.append(_literal(spec, part.strip()))
            elif keyword is not None and keyword[1] not in keywords:
                keywords[keyword[1]] = _literal(spec, keyword[2].strip())
            else:
                raise UnknownNameError(
                    f"upsampler {spec!r}: in then={text}, {part.strip()!r} repeats a keyword, or stands behind one"
                )
        return cls(name, tuple(places), keywords)

    def __str__(self) -> str:
        words = [*map(str, self.places), *(f"{key}={value}" for key, value in self.keywords.items())]
        return f"{self.name}({', '.join(words)})"

    def run(self, spec: str, found: Any) -> None:
        """Call the method of ``found``; what it returns is ignored.

        Raises:
            UnknownNameError: if there is no such method, or it does not take these arguments.
        """
        method = getattr(found, self.name, None)
        if not inspect.isroutine(method):
            raise unknown_name(f"method of upsampler {spec!r}:", self.name, methods_of(found) or ["none"])
        signature = _signature(method)
        try:
            if signature is not None:
                signature.bind(*self.places, **self.keywords)
        except TypeError as error:
            raise UnknownNameError(
                f"upsampler {spec!r}: then={self} does not fit {self.name}{signature}: {error}"
            ) from error
        method(*self.places, **self.keywords)


@dataclass(frozen=True, slots=True)
class Settings:
    """What stands behind the question mark.

    Attributes:
        style: How the upsampler is called; None to tell it from the names of its parameters.
        attribute: Where the upsampler is in what was loaded: attributes, or indices of a tuple, joined by dots.
        arguments: Keywords of the function or class that makes the upsampler.
        call: Keywords of every call of the upsampler.
        then: Method called once after loading; None for none.
    """

    style: str | None = None
    attribute: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    then: MethodCall | None = None

    def __bool__(self) -> bool:
        return bool(self.style or self.attribute or self.arguments or self.call or self.then)

    def record(self) -> dict[str, Any]:
        """What a result keeps of the calls, JSON-ready; empty without any."""
        kept: dict[str, Any] = {}
        if self.call:
            kept["call"] = self.call
        if self.then is not None:
            kept["then"] = str(self.then)
        return kept


def read_settings(spec: str, values: Mapping[str, str], taken: Collection[str] = ()) -> Settings:
    """Read values as JSON where they are, otherwise as text; ``style``, ``attribute``, ``then`` and ``call.`` are ours.

    Args:
        spec: What the user wrote, for messages.
        values: Texts by key.
        taken: Keys that would reach the loading library instead of the code that is loaded.

    Raises:
        UnknownNameError: for a key in ``taken``, or a ``then`` of another form.
    """
    arguments: dict[str, Any] = {}
    call: dict[str, Any] = {}
    for key, value in values.items():
        if key.startswith(CALL):
            call[key.removeprefix(CALL)] = _json_or_text(spec, value)
        elif key in taken:
            raise UnknownNameError(
                f"upsampler {spec!r}: {key!r} cannot be given, it is set by the loader; leave it out"
            )
        elif key not in _OURS:
            arguments[key] = _json_or_text(spec, value)
    then = MethodCall.read(spec, values["then"]) if "then" in values else None
    return Settings(values.get("style"), values.get("attribute", ""), arguments, call, then)


def check_keywords(spec: str, what: str, function: Callable[..., Any], given: Collection[str]) -> None:
    """Refuse keywords that a function does not take, before it is called.

    Raises:
        UnknownNameError: naming those that it takes.
    """
    signature = _signature(function)
    if signature is None or not given:
        return
    refuse_unknown(
        spec,
        what,
        [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)],
        any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()),
        given,
    )


def refuse_unknown(spec: str, what: str, names: Sequence[str], takes_any: bool, given: Collection[str]) -> None:
    """Refuse keywords that are not among the names of parameters.

    Raises:
        UnknownNameError: for the first such keyword.
    """
    for key in given:
        if key not in names and not takes_any:
            raise unknown_name(f"keyword of {what} in upsampler {spec!r}:", key, list(names) or ["none"])


@dataclass(frozen=True)
class WithKeywords:
    """An upsampler that gets the same keywords in every call.

    Attributes:
        upsampler: The original callable.
        keywords: Keywords of every call.
    """

    upsampler: Callable[..., Any]
    keywords: Mapping[str, Any]

    def __call__(self, *places: Any, **named: Any) -> Any:
        """Call the original with these keywords too."""
        return self.upsampler(*places, **named, **self.keywords)


def with_call_keywords(spec: str, found: Any, given: Mapping[str, Any], used: Collection[str]) -> LoadedUpsampler:
    """An upsampler that gets keywords in every call; the two steps, which do not get them, are not used.

    Args:
        spec: What the user wrote, for messages.
        found: The upsampler.
        given: The keywords.
        used: Names of the parameters that features, image and size are given as.

    Raises:
        UnknownNameError: for a keyword that it does not take, or that is already given.
    """
    function = found.forward if isinstance(found, nn.Module) else found
    signature = _signature(function)
    if signature is not None:
        free = [
            p.name
            for p in signature.parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in used
        ]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        for key in given:
            if key in used:
                raise UnknownNameError(
                    f"upsampler {spec!r}: {CALL}{key} cannot be given: the benchmark gives {key!r} in every call"
                )
        refuse_unknown(spec, "the call", free, takes_any, given)
    loaded = LoadedUpsampler.of(found)
    able = dataclasses.replace(
        loaded.capabilities, encode_guidance=None, upsample=None, upsample_strips=None, interpolation=None
    )
    return dataclasses.replace(loaded, call=WithKeywords(loaded.call, dict(given)), capabilities=able)


def methods_of(found: Any) -> list[str]:
    """Public methods that the class of an upsampler adds to those of every module."""
    common = set(dir(nn.Module)) if isinstance(found, nn.Module) else set(dir(object))
    return [
        name
        for name in dir(type(found))
        if name not in common and not name.startswith("_") and callable(getattr(found, name))
    ]


def declared_with(declared: str | Callable[[], str] | None, settings: Settings) -> str | Callable[[], str] | None:
    """A declared identity that tells settings apart."""
    if declared is None or not settings:
        return declared
    in_order = dataclasses.replace(
        settings, arguments=dict(sorted(settings.arguments.items())), call=dict(sorted(settings.call.items()))
    )
    return functools.partial(_declared_text, declared, repr(in_order))


def _declared_text(declared: str | Callable[[], str], settings: str) -> str:
    return f"{declared if isinstance(declared, str) else declared()} with {settings}"


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _literal(spec: str, text: str) -> Any:
    """One argument of a method: a number, true, false, none, or plain text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if not math.isfinite(number):
            raise UnknownNameError(f"upsampler {spec!r}: {text} is not a finite number, so then=… cannot take it")
        return number
    if not _TEXT.fullmatch(text):
        raise UnknownNameError(f"upsampler {spec!r}: {text!r} is no argument for then=…; it takes {_LITERALS}")
    return text


def _json_or_text(spec: str, value: str) -> Any:
    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):  # a result file has no such numbers
            raise UnknownNameError(f"upsampler {spec!r}: {text} is not a finite number; give a finite one, or a text")
        return number

    try:
        return json.loads(value, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return value


def require_no_arguments(spec: str, settings: Settings) -> None:
    """Refuse keywords for what is no maker.

    Raises:
        ContractError: if there are any.
    """
    if settings.arguments:
        names = ", ".join(settings.arguments)
        raise ContractError(
            f"upsampler {spec!r} is ready to be called, so nothing takes {names}; for a keyword of every call write "
            f"{CALL}{next(iter(settings.arguments))}=…"
        )
