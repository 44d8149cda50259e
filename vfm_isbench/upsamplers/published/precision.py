"""At least single precision, for what half precision would turn into noise."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(tensor: Tensor) -> Tensor:
    """The same numbers in single precision, or in double precision if they have it already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
