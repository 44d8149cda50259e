"""Calls of an upsampler in a run: after the contract check too, it can only end the run with a message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vfm_isbench.errors import StoppedError, UpsamplerError
from vfm_isbench.probe.memory import first_line
from vfm_isbench.probe.torch_state import settings_restored
from vfm_isbench.upsamplers import LoadedUpsampler
from vfm_isbench.upsamplers.loaded import as_features


@contextmanager
def during(place: str, kept: Callable[[], str] = str) -> Iterator[None]:
    """Name the place in every :class:`StoppedError` of a block, in front of the places inside it.

    Args:
        place: Such as "training, epoch 2".
        kept: Says what is kept of the work so far; "" leaves that to an outer block.
    """
    try:
        yield
    except StoppedError as error:
        error.places = (place, *error.places)
        error.kept = error.kept or kept()
        raise


@dataclass(frozen=True, slots=True)
class GuardedUpsampler:
    """The functions of an upsampler, each of which returns what the contract promises or raises our error.

    PyTorch's settings are after each call what they were before it. Values are not checked, because that would make
    CUDA devices wait: NaN shows in the logits, where :mod:`vfm_isbench.probe.finite` looks for it.

    Attributes:
        loaded: The upsampler. It stays as it is, so its identity and copies of the probe do not depend on this class.

    Raises:
        UpsamplerError: if the upsampler raises, ends the program, or returns anything but floating-point features
            B×C×H'×W' on the device, H'×W' at least h×w.
    """

    loaded: LoadedUpsampler

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W (ImageNet-normalised)."""
        return self._checked(self._run(self.loaded, features, image), features)

    def encode_guidance(self, image: Tensor) -> Any:
        """First step: prepare ``image`` B×3×H×W; the image itself if the upsampler has no steps."""
        if self.loaded.capabilities.encode_guidance is None:
            return image
        return self._run(self.loaded.encode_guidance, image)

    def upsample(self, features: Tensor, guidance: Any) -> Tensor:
        """Second step: upsample ``features`` B×C×h×w with what :meth:`encode_guidance` returned."""
        return self._checked(self._run(self.loaded.upsample, features, guidance), features)

    def upsample_strips(self, features: Tensor, guidance: Any, size: torch.Size) -> Iterator[tuple[int, Tensor]]:
        """Second step, strip by strip, from the first of the ``size`` H×W of the image to the last row."""
        upsample_strips = self.loaded.capabilities.upsample_strips
        assert upsample_strips is not None, "the upsampler has no strips"
        self._run(self.loaded.bind)
        strips = self._run(lambda: iter(upsample_strips(features, guidance)))
        batch, channels = features.shape[:2]
        next_row = 0
        while next_row < size[0]:
            given = self._run(next, strips, None)
            if not _is_strip(given, next_row, (batch, size[1], channels)):
                raise self._error(
                    f"gave {_described(given)} as the strip that starts in row {next_row}; expected ({next_row}, "
                    f"tensor {batch}×rows×{size[1]}×{channels})"
                )
            top, strip = given
            next_row += strip.shape[1]
            yield top, as_features(self._usable(strip, features), features)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with settings_restored():
                return function(*arguments)
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:
            raise self._error(
                f"ran out of memory ({first_line(error)}): free memory, or choose a device that has more"
            ) from error
        except SystemExit as error:
            raise self._error(
                f"ended the program with sys.exit({error.code!r}): let it raise an exception, or return features"
            ) from error
        except Exception as error:
            raise self._error(f"raised {type(error).__name__}: {error}") from error

    def _checked(self, output: Any, features: Tensor) -> Tensor:
        """The output, if it is of the kind and shape that was promised."""
        batch, channels, height, width = features.shape
        is_right = (
            isinstance(output, Tensor)
            and output.ndim == 4
            and output.shape[:2] == (batch, channels)
            and output.shape[2] >= height
            and output.shape[3] >= width
        )
        if not is_right:
            raise self._error(
                f"returned {_described(output)} for features {_described(features)}, although it kept the contract "
                f"when it was checked; expected a tensor {batch}×{channels}×H'×W', at least {height}×{width} large"
            )
        return self._usable(output, features)

    def _usable(self, output: Tensor, features: Tensor) -> Tensor:
        """The output, if it is of a type and on the device that the head can take."""
        if not output.is_floating_point() or output.device != features.device:
            raise self._error(
                f"returned {output.dtype} on {output.device}, although it kept the contract when it was checked; "
                f"expected {features.dtype} on {features.device}"
            )
        return output

    @staticmethod
    def _error(what: str) -> UpsamplerError:
        return UpsamplerError(f"the upsampler {what}")


def _is_strip(given: Any, row: int, shape: tuple[int, int, int]) -> bool:
    """Whether this is the strip that starts in a row, of a map with B, W and C."""
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not isinstance(given[1], Tensor):
        return False
    top, strip = given
    return bool(top == row) and strip.ndim == 4 and (strip.shape[0], *strip.shape[2:]) == shape


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return "×".join(map(str, value.shape)) or "a scalar"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} ({', '.join(map(_described, value))})"
    return repr(value) if value is None or isinstance(value, int) else f"a value of type {type(value).__name__}"
