"""Every speed program runs with the smallest settings, and its output is consistent."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from doc_pages import DOCS, fences
from small_archives import small_files

import vfm_isbench
from vfm_isbench.datasets import open_dataset
from vfm_isbench.training import TrainingSamples

SPEED = Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
PROGRAMS = (
    "ratios", "memory", "growth", "distances", "parts", "precision", "all", "upsamplers", "samples", "waiting",
)  # fmt: skip
TINY = ["--backbone", "fake", "--image-size", "28", "--rounds", "2", "--device", "cpu"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Programs import each other by plain names, as when they are run; these names are removed afterwards."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPEED))
        for program in SPEED.glob("*.py"):  # tests/upsamplers, for example, may already be imported by the same name
            patch.delitem(sys.modules, program.stem, raising=False)
        yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(SPEED)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def folder(importable: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the programs that start no further processes, for the report."""
    made = tmp_path_factory.mktemp("speed")
    arguments = {
        "ratios": "--parts evaluation training --clicks 3 --slow-clicks 2",
        "growth": f"--objects 1 2 --clicks 1 2 --size 28 42 --width 8 16 --batch 1 2 --picture {made}/growth.svg",
        "distances": "--objects 1",
        "waiting": "--objects 4 --clicks 3 --cases bilinear:late",
        "parts": f"--clicks 3 --slow-clicks 2 --training --picture {made}/parts.svg",
    }
    for name, further in arguments.items():
        load(name).main([*TINY, "--json", str(made / f"{name}.json"), *further.split()])
    return made


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def results(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_how_to_run_it(name: str) -> None:
    text = load(name).arguments().format_help()
    assert f"python benchmarks/speed/{name}.py " in text


def test_values_tell_machine_and_options(folder: Path) -> None:
    for name in ("ratios", "growth", "distances", "parts"):
        found = results(folder, name)
        assert {"torch", "threads", "cpu"} <= set(found["machine"])
        assert found["options"]["rounds"] == 2


def test_counting_leaves_the_threads_alone(folder: Path) -> None:
    assert results(folder, "ratios")["machine"]["threads"] == torch.get_num_threads()


def test_lockstep_saves_waits_and_operations(folder: Path) -> None:
    alone, together = results(folder, "waiting")["waiting"]
    assert alone["clicks"] == together["clicks"] == 12
    assert alone["waits"] == {"cpu": 12, "__bool__": 12}
    assert together["waits"] == {"cpu": 4}, "one per click of the group, and one for the first clicks"
    assert together["operations_per_click"] < alone["operations_per_click"]


def test_ratios_of_evaluations(folder: Path) -> None:
    rows = results(folder, "ratios")["evaluation"]
    assert [row["case"] for row in rows] == [
        "bilinear late", "bilinear early", "loftup late", "loftup early", "featup late",
    ]  # fmt: skip
    for row in rows:
        assert row["clicks"] == {"slow": 2, "fast": 3}
        assert all(len(row[key]) == 2 and min(row[key]) > 0 for key in ("slow", "fast", "direct", "winograd"))
        assert all(1 <= crops <= 3 for crops in row["crops"])
        assert all(0 < crop < 3 * click for crop, click in zip(row["crop"], row["fast"], strict=True))
        assert all(0 < row["clicker"][turn] < row["outside_network"][turn] < 1 for turn in range(2))
        assert len({found["object"] for found in row["agreement"]}) == 2, "a round has an object of its own"
        assert all(found["same_clicks"] and found["iou_difference"] < 1e-3 for found in row["agreement"])


def test_busy_neighbours_live_for_the_measurement_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios, timing, start = load("ratios"), load("timing"), subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def busy(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(start(command))
        return started[-1]

    def measure(*_: object) -> list[dict[str, Any]]:
        assert [process.poll() for process in started] == [None, None]
        raise KeyboardInterrupt

    monkeypatch.setattr(ratios, "measure_training", measure)
    # Only there: describing the machine may start processes too.
    monkeypatch.setattr(timing, "subprocess", SimpleNamespace(Popen=busy))
    with pytest.raises(KeyboardInterrupt):
        ratios.main([*TINY, "--parts", "training", "--busy-neighbours", "2"])
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_ratios_of_training_steps(folder: Path) -> None:
    rows = results(folder, "ratios")["training"]
    assert [row["case"] for row in rows] == ["bilinear late", "loftup late"]
    assert all(len(row[way]) == 2 and min(row[way]) > 0 for row in rows for way in ("slow", "fast"))
    assert all(row["loss_difference"] < 1e-4 for row in rows)


def test_objects_that_part_are_reported() -> None:
    def clicked(clicks: str, *ious: float) -> Any:
        return SimpleNamespace(evidence=[SimpleNamespace(object_id="cat", clicks=clicks, ious=ious)])

    slow = clicked("abc", 0.5, 0.6, 0.7)
    agreement = load("ratio_evaluation")._agreement
    assert agreement(slow, clicked("abcd", 0.5, 0.6, 0.9, 0.9))[0]["iou_difference"] == pytest.approx(0.2)
    assert agreement(slow, clicked("abcd", 0.5, 0.6, 0.9, 0.9))[0]["same_clicks"]
    parted = agreement(slow, clicked("axx", 0.5, 0.1, 0.1))[0]
    assert not parted["same_clicks"]
    assert parted["iou_difference"] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_training_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--image-size", "28", "--rounds", "2", "--protocol", "demo", "--count", "3", "--workers", "1"]
    load("samples").main([*arguments, "--json", str(tmp_path / "samples.json")])
    found = results(tmp_path, "samples")["samples"]
    assert found["dataset"] == "scenes"
    assert all(len(found[key]) == 2 and min(found[key]) > 0 for key in ("seconds_per_sample", "with_workers"))
    assert all(len(values) == 2 and min(values) > 0 for values in found["parts"].values())
    # Read anew, the samples are the same.
    protocol = vfm_isbench.Protocol.preset("demo").replace(image_size=28)
    samples = TrainingSamples(open_dataset("scenes", "train", None, protocol), protocol)
    assert found["sha256"] == load("samples").digest(samples, 3)
    printed = capsys.readouterr().out
    assert "samples of scenes per second and core" in printed and "samples per second with --workers 1." in printed


def test_recorded_models(parity_root: Path, real_root: Path, tmp_path: Path) -> None:
    name = "identity_pre-upsampler_simple-vit.safetensors"
    (tmp_path / "end_to_end").mkdir()
    (tmp_path / "end_to_end" / name).symlink_to(parity_root / "end_to_end" / name)
    data = tmp_path / "data"
    data.mkdir()
    (data / "GrabCut").symlink_to(real_root / "GrabCut")
    load("ratios").main(
        [*TINY, "--rounds", "1", "--parts", "recorded", "stop_at_iou"]
        + ["--parity", str(tmp_path), "--data-root", str(data)]
        + ["--objects", "2", "--clicks", "6", "--stop-at", "40", "90", "--json", str(tmp_path / "ratios.json")]
    )
    (row,) = results(tmp_path, "ratios")["recorded"]
    assert row["clicks"] == {"slow": 6, "fast": 6}
    assert 1 < row["crops"][0] <= 6, "the crop follows what is predicted"
    assert all(found["same_clicks"] and found["iou_difference"] < 1e-4 for found in row["agreement"])
    low, high = results(tmp_path, "ratios")["stop_at_iou"]
    assert low["equal"] and high["equal"]
    assert low["objects"] == high["objects"] == 2
    assert low["clicks"]["stop"] < high["clicks"]["stop"] <= high["clicks"]["all"] == 12


def test_early_stop_scores_differ_where_a_click_does() -> None:
    def evidence(*ious: float) -> list[Any]:
        return [SimpleNamespace(ious=ious)]

    scores = load("ratio_stop_at_iou")._scores
    assert scores(evidence(0.5, 0.95, 0.97), 3, 90) == scores(evidence(0.5, 0.95), 3, 90)
    assert scores(evidence(0.5, 0.95, 0.97), 3, 90) != scores(evidence(0.5, 0.86, 0.97), 3, 90)
    assert scores(evidence(0.5, 0.95, 0.97), 3, 90) != scores(evidence(0.6, 0.95), 3, 90)
    assert scores(evidence(0.5, 0.95, 0.97), 3, 80) == scores(evidence(0.5, 0.84, 0.97), 3, 80)


def test_early_stop_needs_recorded_models(capsys: pytest.CaptureFixture[str]) -> None:
    load("ratios").main([*TINY, "--parts", "stop_at_iou"])
    assert "needs --parity" in capsys.readouterr().out


def test_precision_of_a_recorded_model(parity_root: Path, real_root: Path, tmp_path: Path) -> None:
    name = "identity_pre-upsampler_simple-vit"
    load("precision").main(
        ["--models", str(parity_root / "end_to_end" / f"{name}.safetensors"), "--data-root", str(real_root)]
        + ["--objects", "1", "--device", "cpu", "--precisions", "bfloat16", "float32"]
        + ["--json", str(tmp_path / "precision.json")]
    )
    rough, exact = results(tmp_path, "precision")["models"]
    assert (rough["model"], rough["precision"], rough["objects"]) == (name, "bfloat16", 4)
    assert 0 < rough["first_iou"] < 0.05
    assert exact["first_iou"] == exact["mean_iou"] == 0
    assert exact["same_clicks"] == 4
    recorded = json.loads((parity_root / "end_to_end" / f"{name}.json").read_text(encoding="utf-8")).values()
    clicks = [next((n for n, iou in enumerate(one["objects"][0]["iou"], 1) if iou >= 0.8), 20) for one in recorded]
    assert exact["noc"]["80"]["float32"] == np.mean(clicks)
    assert f"| {name} | bfloat16 | 4 | {np.mean(clicks):.2f}, " in load("precision").markdown({"models": [rough]})


def test_changes_of_noc_are_counted_by_object() -> None:
    def found(*objects: tuple[float, ...]) -> list[Any]:
        return [SimpleNamespace(evidence=[SimpleNamespace(clicks=len(ious), ious=ious) for ious in objects])]

    changes = load("precision")._changes
    change = changes(found((0.5, 0.86), (0.5, 0.91)), found((0.81, 0.86), (0.5, 0.89)), 2)
    assert change["noc"][80] == {"float32": 2.0, "change": -0.5, "objects": 1}
    assert change["noc"][85] == {"float32": 2.0, "change": 0.0, "objects": 0}
    assert change["noc"][90]["objects"] == 0  # a threshold that is never reached counts as all clicks
    assert change["first_iou"] == pytest.approx(0.31)


def test_memory_in_processes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    load("memory").main(
        [*TINY, "--rounds", "1", "--cases", "bilinear:late", "--training-cases", "--clicks", "2", "--json", str(path)]
    )
    (row,) = results(tmp_path, "memory")["memory"]
    assert all(0.05 < gib < 20 for way in ("slow", "fast") for gib in row[way])
    assert "| evaluation | bilinear late |" in load("memory").markdown(results(tmp_path, "memory"))


def test_memory_of_a_training_step(capsys: pytest.CaptureFixture[str]) -> None:
    load("memory").main([*TINY, "--one", "training", "fast", "--training-cases", "loftup:late"])
    assert int(capsys.readouterr().out) > 50e6


def test_growth_has_every_axis_and_a_picture(folder: Path) -> None:
    rows = results(folder, "growth")["growth"]
    assert {row["axis"] for row in rows} == {"objects", "clicks", "size", "width", "batch"}
    assert {row["axis"] for row in rows if row["way"] == "slow"} == {"size", "width"}
    assert all(np.shape(row["seconds"]) == (2, 2) and np.min(row["seconds"]) > 0 for row in rows)
    assert (folder / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "growth.svg").read_text()


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_is_that_of_the_growth(power: int) -> None:
    values = [1, 2, 4, 8]
    seconds = [[3 * value**power, 3 * value**power, 100.0 * value**3] for value in values]
    assert load("growth").exponent(values, seconds) == pytest.approx(power, abs=1e-9)


def test_distances_are_exact_where_they_should_be(folder: Path) -> None:
    found = results(folder, "distances")["distances"]
    by_name = {row["transform"]: row for row in found["rows"]}
    assert by_name[load("distances").OURS]["deviation"] == 0
    assert by_name["torch, bounding box"]["deviation"] < 1e-3
    assert by_name["torch, bounding box"]["other_clicks"] == 0
    assert found["regions"] % 10 == 0


def test_distances_do_without_the_optional_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "edt", None)
    found, missing = load("distances").transforms()
    assert missing == ["opencv-python-headless", "edt"]
    assert len(found) == 3


def test_distances_advise_by_the_figures() -> None:
    def made(ours: float, other: float, other_clicks: int) -> dict[str, Any]:
        rows = [
            {"transform": load("distances").OURS, "seconds_per_click": [ours], "deviation": 0.0, "other_clicks": 0},
            {"transform": "x", "seconds_per_click": [other], "deviation": 0.1, "other_clicks": other_clicks},
        ]
        return {"distances": {"rows": rows, "regions": 1, "missing": []}}

    advice = load("distances").markdown
    assert "x is the fastest: it saves 3.00 ms per click, 0.30 % of" in advice(made(4e-3, 1e-3, 0), 1.0)
    assert "stays with scipy" in advice(made(4e-3, 1e-3, 0), 1.0)
    assert "3.00 % of the fastest case's. That is worth a change." in advice(made(4e-3, 1e-3, 0), 0.1)
    assert "the library's is the fastest" in advice(made(4e-3, 1e-3, 2), 1.0)
    assert "the library's is the fastest" in advice(made(1e-3, 4e-3, 0), 1.0)


def test_parts_show_what_the_shortcut_leaves_out(folder: Path) -> None:
    found = results(folder, "parts")
    assert set(found["clicks"]) == set(found["steps"]) == {
        "bilinear late", "bilinear early", "loftup late", "loftup early",
    }  # fmt: skip
    parts = load("parts")
    late = found["clicks"]["bilinear late"]
    assert min(late["slow"][parts.FEATURES]) > 0 == max(late["fast"][parts.FEATURES]), "worked out on the patch grid"
    for ways in [*found["clicks"].values(), *found["steps"].values()]:
        for part in (parts.FIRST, parts.SECOND, parts.ENCODER, parts.CLICKER, parts.REST, parts.BACKBONE):
            assert all(min(ways[way][part]) > 0 for way in ("slow", "fast"))
    assert all(min(ways["fast"][parts.BACKWARD]) > 0 for ways in found["steps"].values())
    assert all((folder / f"parts{ending}").stat().st_size > 1000 for ending in (".svg", ".png"))


def test_one_command_measures_and_reports(tmp_path: Path) -> None:
    everything, report = load("all"), tmp_path / "2026-01-02-speed.md"
    everything.main(
        ["--folder", str(tmp_path), "--report", str(report), "--programs", "distances", "--backbone", "fake"]
        + ["--image-size", "28", "--rounds", "1", "--distances=--objects 1"]
    )
    text = report.read_text()
    assert text.startswith("# Speed, 2026-01-02\n")
    assert "## Distance transforms" in text
    assert "## Growth" not in text


def test_the_report_has_all_tables_pictures_and_remarks(folder: Path, tmp_path: Path) -> None:
    report, remarks = tmp_path / "2026-01-02-speed.md", tmp_path / "remarks.md"
    remarks.write_text("## What did not pay\n\nThis and that.\n")
    load("all").main(["--folder", str(folder), "--report", str(report), "--report-only", "--remarks", str(remarks)])
    text = report.read_text()
    for piece in (
        "| bilinear late |",
        "≥ 1.9",
        "### Training",
        "torch, bounding box",
        "image side, px",
        "This and that.",
    ):
        assert piece in text
    assert "% of the fastest case's." in text or "the library's is the fastest" in text
    for program in ("growth", "parts"):
        assert f"({report.stem}-{program}.svg)" in text
        assert (tmp_path / f"{report.stem}-{program}.svg").is_file()


def test_nothing_measured_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ratios.json"):
        load("all").main(["--folder", str(tmp_path), "--report-only", "--report", str(tmp_path / "report.md")])


def test_upsamplers_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    load("upsamplers").main(["--one", "loftup", "--sizes", "28", "--width", "8", "--rounds", "2", "--device", "cpu"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["times"]) == 2
    assert found["parameters"] > 0


def test_a_stopwatch_does_not_count_inner_parts_twice() -> None:
    watch = load("stopwatch").Stopwatch(CPU)
    target = SimpleNamespace(work=time.sleep)
    watch.watch(target, "work", "inner", amount=lambda seconds: 3)
    with watch, watch.part("outer"):
        time.sleep(0.02)
        target.work(0.05)
    assert watch.seconds["inner"] == pytest.approx(0.05, abs=0.03)
    assert 0.02 <= watch.seconds["outer"] < 0.05
    assert watch.counts == {"inner": 3, "outer": 1}
    assert target.work is time.sleep, "what was wrapped is as before"


def test_a_stopwatch_keeps_threads_apart() -> None:
    watch = load("stopwatch").Stopwatch(CPU)

    def other() -> None:
        with watch.part("other"):
            time.sleep(0.05)

    with watch.part("main"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert watch.seconds["main"] >= 0.05, "another thread's part is no inner part"
    assert watch.seconds["other"] >= 0.05


def test_timing_takes_turns() -> None:
    timing, order = load("timing"), []
    times = timing.in_turns({name: (lambda name=name: order.append(name)) for name in "ab"}, 3, CPU)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert timing.spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
    assert timing.ratio([4.0, 8.0, 6.0], [1.0, 2.0, 30.0]) == 3


def test_too_few_objects_are_taken_again() -> None:
    from vfm_isbench.testing.fakes import FakeDataset

    cases, dataset = load("cases"), FakeDataset(images=2, instances=1)
    some = cases.SomeObjects(dataset, 1, 2)
    assert [one.image for one in some.objects] == ["fake1", "fake0"]
    assert some.read("fake0").image_id == "fake0"


def test_a_data_root_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="contains none of GrabCut"):
        load("distances").main([*TINY, "--data-root", str(tmp_path)])


def test_the_commands_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as written there, on small data and with a small network."""
    monkeypatch.chdir(tmp_path)
    for name, content in small_files("grabcut").items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    small = {
        "all": [*TINY, "--programs", "distances", "--distances=--objects 1", "--report", "report.md"],
        "parts": [*TINY, "--clicks", "2", "--cases", "bilinear:late"],
    }
    page = (DOCS / "where-the-time-goes.md").read_text(encoding="utf-8")
    lines = [line for fence in fences(page) if fence.language == "bash" for line in fence.text.splitlines()]
    for line in lines:
        python, program, *words = shlex.split(line)
        assert (python, Path(program).parent) == ("python", Path("benchmarks/speed"))
        load(Path(program).stem).main([*words, *small[Path(program).stem]])
    assert len(lines) == len(small)
    assert (tmp_path / "speed-results" / "distances.json").is_file()
    assert (tmp_path / "docs" / "images" / "where-the-time-goes.svg").is_file()
