"""Single precision at least, for what half precision turns into noise."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(tensor: Tensor) -> Tensor:
    """The same numbers in single precision, or in double if they are in that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
