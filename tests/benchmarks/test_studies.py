"""What the recipes of the studies share, and that every page shows the figures that are kept."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from result_builder import seeds_of, synthetic_result

from vfm_isbench import Protocol, VfmIsbenchError, compare
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.cli.options import protocol_from

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "benchmarks" / "recipes"
STUDIES = sorted(path.stem for path in RECIPES.glob("study_*.py") if path.stem != "study_backbone")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports the modules beside the recipes, as a recipe does."""
    monkeypatch.syspath_prepend(str(RECIPES))
    yield importlib.import_module
    for name in [name for name in sys.modules if name == "study" or name.startswith(("study.", "study_"))]:
        del sys.modules[name]


def arguments_of(study: Callable[[str], ModuleType], tmp_path: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    study("study.cases").add_arguments(parser, "trial")
    return parser.parse_args(["--output", str(tmp_path / "runs"), "--jobs", "1", *words])


def test_the_command_of_a_case_sets_its_whole_protocol(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    cases = study("study.cases")
    protocol = Protocol.preset("demo@1").replace(
        epochs=2, milestones=(1,), injection="pre_upsampler", object_limit=4, test_datasets=("scenes", "compact_scenes")
    )
    case = cases.Case(label="a name", upsampler="bilinear", protocol=protocol, options=("--backbone-weights", "here"))
    arguments = arguments_of(study, tmp_path, "--data-root", "data", "--workers", "3")
    parsed = build_parser().parse_args(case.command(Path("out"), 5, arguments))
    assert protocol_from(parsed) == protocol.replace(seed=5)
    assert (parsed.upsampler, parsed.name, parsed.output) == ("bilinear", "a name", Path("out"))
    assert (parsed.data_root, parsed.workers, parsed.backbone_weights) == (Path("data"), 3, Path("here"))


def test_finished_runs_are_kept_and_failures_stop_no_other(
    study: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases = study("study.cases")
    ran: list[str] = []

    def run(words: Sequence[str], jobs: int) -> str | None:
        parsed = build_parser().parse_args(list(words))
        ran.append(parsed.output.name)
        if parsed.name == "bad":
            return "it cannot be loaded"
        synthetic_result("bilinear", seed=parsed.seed).save(parsed.output / "result.json")
        return None

    monkeypatch.setattr(cases, "vfm_isbench", run)
    three = [
        cases.Case(label=label, upsampler="bilinear", protocol=Protocol.preset("demo@1"))
        for label in ("a", "bad", "b:c")
    ]
    arguments = arguments_of(study, tmp_path, "--seeds", "0", "1")
    found = cases.run_cases(three, arguments)
    assert ran == ["a-seed0", "bad-seed0", "b_c-seed0", "a-seed1", "b_c-seed1"]
    assert list(found.results) == ["a", "b:c"]
    assert [result.protocol.seed for result in found.results["a"]] == [0, 1]
    assert found.skipped == {"bad": "it cannot be loaded"}
    assert "skipped: bad: it cannot be loaded" in capsys.readouterr().err
    ran.clear()
    again = cases.run_cases(three[:1], arguments_of(study, tmp_path, "--seeds", "0", "1", "2"))
    assert ran == ["a-seed2"]
    assert len(again.results["a"]) == 3
    other = cases.Case(label="a", upsampler="bilinear", protocol=Protocol.preset("demo@1").replace(epochs=2))
    for read in (cases.run_cases, cases.results_of):
        with pytest.raises(VfmIsbenchError, match="the result of another protocol"):
            read([other], arguments)


def test_labels_are_unique(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    cases = study("study.cases")
    case = cases.Case(label="a", upsampler="bilinear", protocol=Protocol.preset("demo"))
    with pytest.raises(ValueError, match="must be unique"):
        cases.run_cases([case, case], arguments_of(study, tmp_path))


def test_what_is_kept_is_read_back(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    kept = study("study.kept")
    runs = {name: [synthetic_result(name, seed=seed) for seed in (0, 1)] for name in ("bilinear", "jbu")}
    kept.keep("trial", runs, tmp_path)
    kept.keep_figures("trial", {"drift": [0.1, None]}, tmp_path)
    kept.keep_figures("trial", {"cost": 2}, tmp_path)
    found = kept.kept("trial", tmp_path)
    assert {name: [run.datasets for run in results] for name, results in found.items()} == {
        name: [run.datasets for run in results] for name, results in runs.items()
    }
    assert kept.kept_figures("trial", tmp_path) == {"drift": [0.1, None], "cost": 2}
    files = {file.name: file.read_bytes() for file in (tmp_path / "trial").glob("*.gz")}
    kept.keep("trial", runs, tmp_path)
    assert {file.name: file.read_bytes() for file in (tmp_path / "trial").glob("*.gz")} == files
    kept.keep("trial", {"jbu": runs["jbu"]}, tmp_path)
    assert list(kept.kept("trial", tmp_path)) == ["jbu"]


def test_figures_go_between_their_markers(study: Callable[[str], ModuleType]) -> None:
    page = study("study.page")
    text = (
        "# A\n\n<!-- figures: one -->\nold\n<!-- end of figures -->\n\ntext\n\n"
        "<!-- figures: two -->\n<!-- end of figures -->\n"
    )
    new = page.filled(text, {"one": r"| \d \1 |", "two": "2"})
    assert new == (
        "# A\n\n<!-- figures: one -->\n\n| \\d \\1 |\n\n<!-- end of figures -->\n\ntext\n\n"
        "<!-- figures: two -->\n\n2\n\n<!-- end of figures -->\n"
    )
    assert page.filled(new, {"one": r"| \d \1 |", "two": "2"}) == new
    with pytest.raises(ValueError, match="the recipe makes"):
        page.filled(text, {"one": "1"})


def test_differences_are_those_of_compare(study: Callable[[str], ModuleType]) -> None:
    statistics = study("study.statistics")
    first, second = seeds_of("a", (0, 1, 2)), seeds_of("b", (0, 1, 2), shift=0.05)
    (expected,) = compare(first, second, metrics=["mean_iou"]).differences
    assert statistics.mean_difference(first, second, "mean_iou") == expected.difference
    assert statistics.mean(first, "mean_iou").value == pytest.approx(expected.first_value)
    assert statistics.shown(expected.difference, percent=True).startswith("+")


def test_an_interaction_is_a_difference_of_differences(study: Callable[[str], ModuleType]) -> None:
    statistics = study("study.statistics")
    sides = [seeds_of(name, (0, 1, 2), shift=shift) for name, shift in (("a", 0), ("b", 0.01), ("c", 0), ("d", 0.04))]
    means = [np.mean([run.datasets["davis"].ious.mean() for run in side]) for side in sides]
    found = statistics.interaction((sides[0], sides[1]), (sides[2], sides[3]), "mean_iou")
    assert found.value == pytest.approx((means[3] - means[2]) - (means[1] - means[0]))
    assert found.low < found.value < found.high
    nothing = statistics.interaction((sides[0], sides[1]), (sides[0], sides[1]), "mean_iou")
    assert (nothing.low, nothing.high) == (0, 0)


def test_rank_correlation_knows_equal_reversed_and_unrelated_orders(study: Callable[[str], ModuleType]) -> None:
    statistics = study("study.statistics")
    rng = np.random.default_rng(0)
    images = [f"image{number // 2}" for number in range(60)]
    skill = np.arange(5.0)[:, None, None]
    scores = skill + 0.1 * rng.normal(size=(5, 3, 60))
    assert statistics.kendall_tau(scores, scores, images, draws=50) == pytest.approx((1, 1, 1))
    assert statistics.kendall_tau(scores, -scores, images, draws=50) == pytest.approx((-1, -1, -1))
    noise = rng.normal(size=(5, 3, 60))
    _, low, high = statistics.kendall_tau(scores, noise, images, draws=200)
    assert low < 0 < high


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_shows_what_is_kept(name: str, study: Callable[[str], ModuleType]) -> None:
    recipe, page = study(name), study("study.page")
    text = (ROOT / "docs" / "studies" / f"{recipe.NAME}.md").read_text(encoding="utf-8")
    assert page.filled(text, recipe.blocks()) == text, f"run python benchmarks/recipes/{name}.py --only-page"
