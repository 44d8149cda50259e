"""Work shared by threads that do not wait for each other.

PyTorch runs each operation on all its threads, and starts the next one when the slowest has finished. If another
process occupies a core, every operation waits until that core is free again, and a click consists of many short
operations. Here, each thread computes whole items with operations of its own, and takes the next item when it is free.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")

_LEAST_VALUES = 2**15
"""Numbers of an image below which its network takes about as long as starting a thread."""


def available(device: torch.device) -> int:
    """How many threads :func:`share` may use: as many as PyTorch, but only one where that cannot be arranged.

    It takes a CPU, and a PyTorch that counts threads separately for each caller. Autocast would have to be set up again
    in each thread, and compiled code cannot start any.
    """
    can_share = (
        device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and "parallel backend: OpenMP" in torch.__config__.parallel_info()
    )
    return torch.get_num_threads() if can_share else 1


def in_parts(network: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Apply a network to batches of B images, each thread to its part of them, if that needs every thread equally.

    Without gradients only: with them, the network gets the whole batches.

    Args:
        network: Called with B'×… parts, by several threads at once; returns B'×….
        batches: Its arguments, B×… each.
    """
    first = batches[0]
    count = 1 if torch.is_grad_enabled() else available(first.device)
    if count == 1 or len(first) % count or first[:1].numel() < _LEAST_VALUES:
        return network(*batches)
    parts = list(zip(*(batch.chunk(count) for batch in batches), strict=True))
    results: dict[int, Tensor] = {}

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            results[number] = network(*parts[number])

    share(range(count), [work] * count)
    return torch.cat([results[number] for number in range(count)])


def share(items: Sequence[Item], works: Sequence[Callable[[Iterator[Item]], None]]) -> None:
    """Run each of ``works`` on its own thread, with an iterator over the items that it gets.

    Every item goes to one thread, whichever is free first, so results must not depend on which.

    Args:
        items: What to work on; taken in this order.
        works: Called once each, on a thread whose operations use no further threads. Gradients and inference mode are
            as for the caller.

    Raises:
        BaseException: what one of them raised; the others then get no further items.
    """
    threads = torch.get_num_threads()
    queue = _Queue(items)
    workers = [_Worker(work, queue) for work in works]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.is_limited.wait()
        # PyTorch makes the limit of a thread the default for threads that start later; take that back at once.
        torch.set_num_threads(threads)
        for worker in workers:
            worker.is_done.wait()
    except BaseException:  # such as Ctrl-C: no thread may outlive this call
        queue.close()
        for worker in workers:
            if worker.ident is not None:
                worker.is_done.wait()
        torch.set_num_threads(threads)
        raise
    for worker in workers:
        worker.join()
        if worker.error is not None:
            raise worker.error


class _Queue(Generic[Item]):
    """An iterator for several threads."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)

    def close(self) -> None:
        """Give out no further items."""
        with self._lock:
            self._items = iter(())


class _Worker(threading.Thread, Generic[Item]):
    """A thread whose operations use no further threads, with the modes of the thread that made it.

    Attributes:
        is_limited: Set once its operations use no further threads.
        is_done: Set when it has nothing left to do. Unlike ``join``, waiting for this survives Ctrl-C.
        error: What its work raised.
    """

    def __init__(self, work: Callable[[Iterator[Item]], None], queue: _Queue[Item]) -> None:
        super().__init__(name="vfm-isbench-share")
        self.is_limited, self.is_done = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._work, self._queue = work, queue
        self._is_inference, self._has_gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(self) -> None:
        """Work until there are no more items."""
        try:
            try:
                torch.set_num_threads(1)
            finally:
                self.is_limited.set()
            with torch.inference_mode(self._is_inference), torch.set_grad_enabled(self._has_gradients):
                self._work(self._queue)
        except BaseException as error:
            self.error = error
            self._queue.close()
        finally:
            self.is_done.set()
