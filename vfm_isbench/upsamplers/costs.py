"""What one call of an upsampler costs: floating-point operations and memory."""

from __future__ import annotations

import contextlib
import functools
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.trial_inputs import Trial


@dataclass(slots=True)
class PeakMemory:
    """Memory that a block needed.

    Attributes:
        n_bytes: Bytes of the tensors that were in memory at once, at most, apart from those from before the block.
    """

    n_bytes: int = 0


@contextmanager
def counted_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Count the memory that tensors made in a block take at most.

    On CUDA devices, PyTorch's allocator counts, and its peak starts anew. Elsewhere the block runs under a dispatch
    mode that sees every tensor that an operation returns until it is freed; what an operation needs for itself while it
    runs is missing there.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.n_bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _LiveTensors(peak):
        yield peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages of the tensors that operations return, while these live."""

    def __init__(self, peak: PeakMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._peak = peak
        self._bytes = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(outputs):
            if _address(tensor) not in given:  # no view of an input, and not an input changed in place
                self._add(tensor)
        return outputs

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self._known or not n_bytes:
            return
        self._known[key] = n_bytes
        self._bytes += n_bytes
        self._peak.n_bytes = max(self._peak.n_bytes, self._bytes)
        # The storage's Python object lives as long as the storage, whichever tensors and graphs hold it.
        weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self._bytes -= self._known.pop(key, 0)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_iter(values) if isinstance(value, Tensor))


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def flops_per_image(upsampler: LoadedUpsampler, trial: Trial) -> int | None:
    """Floating-point operations of a call with one image, as ``torch.utils.flop_counter`` counts them.

    It counts matrix products, convolutions and attention, a multiplication with its addition as two. Everything else
    counts nothing: interpolation, element-wise operations, and kernels that PyTorch does not know.

    Returns:
        None if the upsampler cannot be called under the counter.
    """
    counter = FlopCounterMode(display=False)

    def count() -> int:
        with torch.no_grad(), counter:
            upsampler(trial.features[:1].clone(), trial.image[:1].clone())
        return int(counter.get_total_flops())

    return _quietly(count)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory that work on a batch needs, by its number of images.

    Attributes:
        first: Bytes for a single image.
        further: Bytes for every further image.
    """

    first: int
    further: int

    @classmethod
    def measured(cls, bytes_of: Callable[[int], int]) -> MemoryNeed | None:
        """Measured with one and with two images; None if that fails.

        A whole batch would take long on a CPU, and may not fit at all, which is what this is to find out.
        """
        one, two = (_quietly(functools.partial(bytes_of, images)) for images in (1, 2))
        return None if one is None or two is None else cls(one, max(0, two - one))

    def of(self, images: int) -> int:
        """Bytes for so many images.

        >>> MemoryNeed(10, 4).of(1), MemoryNeed(10, 4).of(3)
        (10, 18)
        """
        return self.first + (images - 1) * self.further

    def most_images(self, n_bytes: int) -> int:
        """How many images fit into so many bytes, up to a billion.

        >>> [MemoryNeed(10, 4).most_images(n_bytes) for n_bytes in (9, 10, 17, 18)]
        [0, 1, 2, 3]
        """
        if n_bytes < self.first:
            return 0
        return 1 + (n_bytes - self.first) // self.further if self.further else 10**9


def call_memory(upsampler: LoadedUpsampler, trial: Trial, *, needs_gradient: bool = False) -> MemoryNeed | None:
    """Memory that calls of an upsampler need, as :func:`counted_memory` counts it; features and image not counted.

    Args:
        upsampler: The upsampler, on its device.
        trial: Inputs for two images.
        needs_gradient: Whether training passes a gradient back through the call, which keeps more in memory.

    Returns:
        None if the upsampler cannot be called so.
    """
    by_itself = upsampler.capabilities.needs_gradients  # called with one image at a time

    def bytes_of(images: int) -> int:
        features, image = trial.features[:images].clone(), trial.image[:images].clone()
        with counted_memory(features.device) as peak, torch.set_grad_enabled(needs_gradient and not by_itself):
            output = upsampler(features.requires_grad_(torch.is_grad_enabled()), image)
            if torch.is_grad_enabled():
                torch.autograd.backward(output.sum())
            del output
        return peak.n_bytes

    return MemoryNeed.measured(bytes_of)


def _quietly(count: Callable[[], int]) -> int | None:
    """What a count gives; None if the upsampler fails under it, which is no reason to refuse it."""
    with contextlib.suppress(Exception, SystemExit), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return count()
    return None
