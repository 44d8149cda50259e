"""The trained probe, as Python shows it."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from small import SMALL, small_probe

from vfm_isbench import Benchmark, TrainedProbe
from vfm_isbench.upsamplers import identity_of, load_upsampler


def test_repr_is_one_short_line() -> None:
    found = identity_of(load_upsampler("bilinear"))
    trained = TrainedProbe(probe=small_probe(), protocol=SMALL, upsampler=found, contract=cast(Any, None), behaviour={})
    assert repr(trained) == "<TrainedProbe 'bilinear', 'small', 'fake', seed 0: 0 of 3 epochs>"
    renamed = dataclasses.replace(trained, upsampler=dataclasses.replace(found, name="two\nlines" * 100))
    assert "\n" not in repr(renamed) and len(repr(renamed)) < 150


def test_so_is_that_of_a_benchmark() -> None:
    assert repr(Benchmark(SMALL, device="cpu")) == "<Benchmark 'small' on cpu>"
    assert repr(Benchmark(SMALL, device="cpu", output_dir="runs/x")) == "<Benchmark 'small' on cpu, kept in 'runs/x'>"
