"""Which tensors of a network timm left as they were when it loaded weights: it says so in its log, and goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_LOGGER = "timm.models._builder"
_MISSING, _UNEXPECTED = "Missing keys (", "Unexpected keys ("


@dataclass(slots=True)
class KeysLeftOut:
    """Names of tensors that do not match.

    Attributes:
        missing: Those of the network that were left as they were.
        unexpected: Those of the weights that were not used.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


class _Listener(logging.Filter):
    """Reads the names from messages of one thread, and lets through what would have been logged anyway."""

    def __init__(self, would_be_logged: Callable[[int], bool]) -> None:
        super().__init__()
        self.keys = KeysLeftOut()
        self._would_be_logged = would_be_logged
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread == self._thread:
            text = record.getMessage()
            for start, keys in ((_MISSING, self.keys.missing), (_UNEXPECTED, self.keys.unexpected)):
                if text.startswith(start):
                    keys += text[len(start) :].partition(")")[0].split(", ")
        return self._would_be_logged(record.levelno)


@contextmanager
def keys_left_out() -> Iterator[KeysLeftOut]:
    """The names, complete at the end of a ``with`` block, whatever was done to logging: levels, or switching it off."""
    logger = logging.getLogger(_LOGGER)
    level, disabled, for_all = logger.getEffectiveLevel(), logger.disabled, logging.root.manager.disable
    own_level = logger.level
    listener = _Listener(lambda each: not disabled and each >= level and each > for_all)
    logger.addFilter(listener)
    logger.setLevel(min(logging.INFO, level))
    logger.disabled = False
    vars(logger)["isEnabledFor"] = lambda _level: True  # not even logging.disable() may hide a message from us
    try:
        yield listener.keys
    finally:
        vars(logger).pop("isEnabledFor", None)
        logger.disabled = disabled
        logger.setLevel(own_level)
        logger.removeFilter(listener)
