"""The hash of a module's weights."""

from __future__ import annotations

import torch
from torch import nn

from vfm_isbench.storage.hashing import weights_sha256


def test_the_hash_of_weights_covers_names_values_shapes_and_buffers() -> None:
    def norm() -> nn.BatchNorm1d:
        return nn.BatchNorm1d(4)

    changed_weight, changed_buffer, other_type = norm(), norm(), norm().double()
    changed_weight.weight.data[2] += 1e-6
    assert changed_buffer.running_mean is not None
    changed_buffer.running_mean[0] = 0.5
    renamed, wider = nn.ModuleDict({"a": norm()}), nn.BatchNorm1d(5)
    modules = [norm(), changed_weight, changed_buffer, other_type, renamed, wider]
    assert weights_sha256(norm()) == weights_sha256(norm())
    assert len({weights_sha256(module) for module in modules}) == len(modules)


def test_weights_of_any_type_are_hashed() -> None:
    layer = nn.Linear(2, 3)
    assert len({weights_sha256(layer.to(kind)) for kind in (torch.float32, torch.bfloat16, torch.float16)}) == 3
