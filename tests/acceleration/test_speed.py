"""Settings of speed are checked, told where they matter, and leave PyTorch as they found it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vfm_isbench.acceleration.speed import Precision, Speed, arithmetic, tf32
from vfm_isbench.errors import SpeedError


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"stop_at_iou": ()}, "whole numbers from 1 to 100"),
        ({"stop_at_iou": (0.9,)}, "whole numbers"),
        ({"stop_at_iou": (101,)}, "whole numbers"),
        ({"stop_at_iou": 90}, "such as"),
        ({"precision": "float16"}, "float32, tf32, bfloat16"),
        ({"objects_at_once": 0}, "at least 1"),
        ({"images_at_once": 0}, "images_at_once must be at least 1, got 0"),
        ({"feature_cache": "cache", "precision": "bfloat16"}, "leave one"),
        ({"feature_cache": "cache", "shortcut": False}, "leave one"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpeedError, match=problem):
        Speed(**settings)


def test_a_result_tells_only_what_changes_numbers() -> None:
    assert Speed(objects_at_once=3, images_at_once=3, read_ahead=False, feature_cache=Path("x")).to_record() == {}
    assert Speed(shortcut=False).label() == "-whole" and Speed().label() == ""
    assert Speed().notes() == []
    stopping = Speed(stop_at_iou=(90, 80, 80), precision="bfloat16")
    assert stopping.to_record() == {"early_stop": [80, 90], "precision": "bfloat16"}
    assert stopping.label() == "-stop90-bfloat16"
    assert len(stopping.notes()) == 2


def test_objects_in_lockstep_follow_the_device_unless_told() -> None:
    assert Speed().lockstep(torch.device("cpu")) == 1
    assert Speed().lockstep(torch.device("cuda")) == 8
    assert Speed(objects_at_once=3).lockstep(torch.device("cpu")) == 3


def test_tf32_is_for_cuda_devices() -> None:
    with pytest.raises(SpeedError, match="needs a CUDA device"), arithmetic("tf32", torch.device("cpu")):
        pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_arithmetic_holds_inside_the_block_alone(precision: Precision) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    factors = torch.rand(4, 4)
    with pytest.raises(RuntimeError, match="on purpose"), arithmetic(precision, torch.device("cpu")):
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        assert (factors @ factors).dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)
        raise RuntimeError("on purpose")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert (factors @ factors).dtype == torch.float32


def test_settings_of_tf32_nest() -> None:
    with tf32(True):
        with tf32(False):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
