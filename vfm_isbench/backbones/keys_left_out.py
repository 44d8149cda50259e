"""Which tensors of a network timm left as they were when it loaded weights: it says so in its log, and goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "timm.models._builder"
_START = "Missing keys ("


class _Listener(logging.Filter):
    """Reads the names from messages of one thread, and lets through what would have been logged anyway."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.keys: list[str] = []
        self._level = level
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.thread == self._thread and text.startswith(_START):
            self.keys += text[len(_START) :].partition(")")[0].split(", ")
        return record.levelno >= self._level


@contextmanager
def keys_left_out() -> Iterator[list[str]]:
    """A list that holds, at the end of a ``with`` block, the names of the tensors that were left as they were."""
    logger = logging.getLogger(_LOGGER)
    level, listener = logger.level, _Listener(logger.getEffectiveLevel())
    logger.addFilter(listener)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield listener.keys
    finally:
        logger.setLevel(level)
        logger.removeFilter(listener)
