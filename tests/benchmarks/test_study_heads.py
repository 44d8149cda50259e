"""The cases of the study of heads, and its tables from made-up results."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from result_builder import seeds_of

from vfm_isbench import Protocol

RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(RECIPES))
    yield importlib.import_module("study_heads")
    for name in [name for name in sys.modules if name == "study" or name.startswith(("study.", "study_"))]:
        del sys.modules[name]


def test_runs_of_the_conv_head_are_those_of_the_leaderboard(recipe: ModuleType) -> None:
    demo = Protocol.preset("demo")
    cases = {case.label: case for case in recipe.cases(demo)}
    assert len(cases) == 8
    assert cases["conv, jbu"].protocol == demo
    assert set(recipe.reused(demo)) == {"conv, bilinear", "conv, jbu"}
    assert cases["pyramid, identity"].protocol.pyramid_width == recipe.DEMO_WIDTH
    wide = recipe.cases(Protocol.preset("paper"))
    assert {case.protocol.pyramid_width for case in wide} == {128}


def test_the_tables_show_every_head_and_every_difference(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {}
    for number, case in enumerate(recipe.cases(Protocol.preset("paper"))):
        runs = seeds_of("x", (0, 1), shift=0.01 * number)
        results[case.label] = [dataclasses.replace(run, trained_parameters={"head": 1000 + number}) for run in runs]
    monkeypatch.setattr(recipe, "all_results", lambda: results)
    blocks = recipe.blocks()
    rows = blocks["scores"].splitlines()
    assert len(rows) == 2 + 8 and "| 1,001 |" in rows[3]
    differences = blocks["differences"].splitlines()[2:]
    assert len(differences) == 1 + 5 * 2
    assert "| conv, identity | pyramid, identity | +" in differences[0]


def test_heads_of_older_results_are_counted(recipe: ModuleType) -> None:
    result = seeds_of("x", (0,))[0]
    assert not result.trained_parameters
    channels, layers = result.backbone["width"], result.protocol.head_layers
    expected = layers * (9 * channels**2 + channels) + channels + 1
    assert recipe.head_parameters(result) == expected
