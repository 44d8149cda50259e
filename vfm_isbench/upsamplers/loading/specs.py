"""What may stand before the colon of an upsampler's name: ``loftup:…``, ``hub:…``, and who loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl

from vfm_isbench.errors import UnknownNameError
from vfm_isbench.registry.registry import Registry
from vfm_isbench.upsamplers.base import Upsampler


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How an upsampler may be loaded, besides what its name says.

    Attributes:
        weights: File or folder with its weights, instead of hub or URL; None where they are to be fetched.
        trust_remote_code: Whether code of other people's repositories may be fetched and run.
    """

    weights: Path | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.weights is not None:  # text will do as well
            object.__setattr__(self, "weights", Path(self.weights).expanduser())


Loader: TypeAlias = Callable[[str, LoadOptions], Upsampler]
"""Called with what stands behind the colon."""

OWN_LOADERS = frozenset({"loftup", "featup", "lift"})
"""Those that read weights and run no code but this library's."""

LOADERS: Registry[Loader] = Registry("kind of upsampler")
"""Loaders by what stands before the colon: ``LOADERS.add("loftup", load_pretrained_loftup)``."""


def split_query(text: str) -> tuple[str, dict[str, str]]:
    """Part ``NAME?key=value&key=value`` into the name and the values by key.

    Raises:
        UnknownNameError: if what follows the question mark is not of that form, or a key stands twice.

    Example:
        >>> split_query("dinov2s?max_memory=2")
        ('dinov2s', {'max_memory': '2'})
    """
    name, mark, query = text.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    except ValueError as error:
        raise UnknownNameError(f"{text!r}: expected ?key=value, more of them joined by &, got ?{query}") from error
    values = dict(pairs)
    if len(values) < len(pairs):
        raise UnknownNameError(f"{text!r}: a key stands twice after the question mark")
    return name, values
