"""Seconds by part, inside runs of the real thing.

Parts are measured where they happen, by wrapping functions and methods for a while. So they add up to the whole, and
what happens once per crop weighs as it does in an evaluation.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from timing import synchronize


class Stopwatch:
    """Adds up the seconds spent in named parts; what an inner part takes does not count for the outer one.

    Wrapped functions are as they were when the block ``with stopwatch:`` is left.

    Args:
        device: What a part starts on this device is waited for.

    Attributes:
        seconds: Seconds by part.
        counts: Calls by part, or what their ``amount`` says.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._device = device
        self._wrapped: list[tuple[Any, str, str, Callable[..., int] | None]] = []
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._inner = threading.local()  # seconds of inner parts, one sum per open part

    def watch(self, owner: Any, attribute: str, part: str, amount: Callable[..., int] | None = None) -> None:
        """Count calls of a function, method or ``forward`` as a part.

        Args:
            owner: Module, class or object that has it.
            attribute: Its name there.
            part: Name of the part.
            amount: Called with the same arguments: how many to count; without it, every call counts once.
        """
        self._wrapped.append((owner, attribute, part, amount))

    @contextmanager
    def part(self, name: str, amount: int = 1) -> Iterator[None]:
        """What runs inside is this part."""
        stack: list[float] = self._inner.__dict__.setdefault("stack", [])
        stack.append(0.0)
        synchronize(self._device)
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self._device)
            elapsed = time.perf_counter() - start
            inner = stack.pop()
            if stack:
                stack[-1] += elapsed
            with self._lock:
                self.seconds[name] += elapsed - inner
                self.counts[name] += amount

    def __enter__(self) -> Stopwatch:
        for owner, attribute, part, amount in self._wrapped:
            wrapped = self._timed(getattr(owner, attribute), part, amount)
            self._open.enter_context(patch.object(owner, attribute, wrapped))
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def _timed(self, original: Callable[..., Any], part: str, amount: Callable[..., int] | None) -> Callable[..., Any]:
        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part, 1 if amount is None else amount(*args, **kwargs)):
                return original(*args, **kwargs)

        return timed
