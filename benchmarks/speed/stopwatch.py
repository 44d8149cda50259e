"""Measure the seconds of each part inside a real run.

Functions and methods are wrapped temporarily to time them where they run. So the parts add up to the whole, and work
done once per crop has the same weight as in an evaluation.
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
    """Adds up the seconds spent in named parts; the time of an inner part does not count for the outer part.

    Functions are wrapped only inside the block ``with stopwatch:``.

    Args:
        device: The device to wait for at the end of each part.

    Attributes:
        seconds: Seconds by part.
        counts: Calls by part, or the sum of their ``amount``.
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
            owner: The module, class or object with the function.
            attribute: The function's name there.
            part: Name of the part.
            amount: Called with the same arguments, returns how much to count; by default every call counts as 1.
        """
        self._wrapped.append((owner, attribute, part, amount))

    @contextmanager
    def part(self, name: str, amount: int = 1) -> Iterator[None]:
        """Count what runs inside the block as this part."""
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
