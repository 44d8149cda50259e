"""Runs the steps of the ready workflow, and the pytest example, with a tiny protocol."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_pages import fences
from tiny import TINY, UPSAMPLER

import vfm_isbench
from vfm_isbench import Result
from vfm_isbench.cli.main import build_parser

SUPPORT = Path(__file__).resolve().parents[1] / "support"
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
WORKFLOW = EXAMPLES / "upsampler-benchmark.yml"
PYTEST = EXAMPLES / "test_upsampler.py"
PACKAGE = Path(vfm_isbench.__file__).parents[1]

SMALLER = {"epochs": 1, "samples_per_epoch": 8, "image_size": 64, "max_clicks": 3, "object_limit": 3}
SEEDS = (0, 1)


def better(result: Result) -> Result:
    """The same result with every IoU raised by 0.2, as from a far better upsampler."""
    raised = {
        name: dataclasses.replace(
            found,
            objects=tuple(
                dataclasses.replace(evidence, ious=tuple(min(1.0, iou + 0.2) for iou in evidence.ious))
                for evidence in found.objects
            ),
        )
        for name, found in result.datasets.items()
    }
    return dataclasses.replace(result, datasets=raised)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    """Results of the upsampler under a smaller demo protocol, and under the tiny protocol."""
    file = tmp_path_factory.mktemp("upsampler") / "my_upsampler.py"
    file.write_text(UPSAMPLER, encoding="utf-8")
    protocols = {"demo": vfm_isbench.Protocol.preset("demo").replace(**SMALLER), "tiny": TINY.replace(epochs=1)}
    return {
        name: [vfm_isbench.evaluate(f"{file}:Upsampler", protocol.replace(seed=seed), device="cpu") for seed in SEEDS]
        for name, protocol in protocols.items()
    }


def prepared(folder: Path, baseline: list[Result]) -> None:
    """Write an upsampler and its baseline into a folder, as in the upsampler's repository."""
    (folder / "my_upsampler.py").write_text(UPSAMPLER, encoding="utf-8")
    for result in baseline:
        result.save(folder / "baseline" / f"seed{result.protocol.seed}.json")


def workflow() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return content


def run_steps(
    folder: Path, env: dict[str, str], python: list[str], *, only_last: bool = False
) -> tuple[list[int], str]:
    """Run the steps that are commands as GitHub does, up to the first failure; returns exit codes and output."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "vfm-isbench").write_text(f'#!/bin/sh\nexec {shlex.join(python)} -m vfm_isbench "$@"\n')
    (commands / "vfm-isbench").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE), **env}
    steps = [step for step in workflow()["jobs"]["benchmark"]["steps"] if "run" in step and step["name"] != "Install"]
    codes, output = [], ""
    for step in steps[-1:] if only_last else steps:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        codes.append(done.returncode)
        output += done.stdout
        if done.returncode:
            break
    return codes, output


def settings(folder: Path) -> dict[str, str]:
    """The workflow's environment, with a smaller protocol."""
    env = {key: str(value) for key, value in workflow()["env"].items()}
    changes = " ".join(f"--set {field}={value}" for field, value in SMALLER.items())
    return {
        **env,
        "PROTOCOL": f"{env['PROTOCOL']} {changes} --device cpu",
        "SEEDS": " ".join(map(str, SEEDS)),
        "GITHUB_STEP_SUMMARY": str(folder / "job.md"),
    }


def test_the_workflow_passes_a_rerun_and_fails_what_got_worse(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, baseline["demo"])
    codes, output = run_steps(tmp_path, settings(tmp_path), python)
    assert codes == [0, 0, 0, 0], output
    assert "the baseline holds: nothing but the upsampler" in output
    verdict = json.loads((tmp_path / "verdict" / "regress.json").read_text(encoding="utf-8"))
    assert (verdict["verdict"], verdict["metric"], verdict["margin"]) == ("pass", "mean_iou", 0.01)
    # Another process gives the same numbers: seeds are paired, and nothing differs.
    assert verdict["datasets"][0]["worsening"]["value"] == 0
    assert verdict["datasets"][0]["first_seeds"] == [0, 1]
    assert "vfm-isbench regress: pass" in (tmp_path / "job.md").read_text(encoding="utf-8")
    assert (tmp_path / "verdict" / "regress.md").is_file()

    # The last step again, against a better baseline, and against a baseline with another protocol.
    for raised, code, said in (
        ([better(result) for result in baseline["demo"]], 1, "regression: mean IoU is worse"),
        (baseline["tiny"], 3, "incomparable"),
    ):
        prepared(tmp_path, raised)
        codes, output = run_steps(tmp_path, settings(tmp_path), python, only_last=True)
        assert codes == [code], output
        assert said in output


def test_the_workflow_lets_inconclusive_pass_with_a_warning(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    first, second = baseline["demo"]
    # Much worse with one seed, the same with the other: two seeds cannot tell.
    prepared(tmp_path, [better(first), second])
    for result in baseline["demo"]:
        result.save(tmp_path / "runs" / f"seed{result.protocol.seed}" / "result.json")
    codes, output = run_steps(tmp_path, settings(tmp_path), python, only_last=True)
    assert codes == [0], output
    assert "::warning" in output
    assert "inconclusive: mean IoU may or may not be worse" in output


def test_the_step_that_is_not_run_here_installs_the_package_alone() -> None:
    steps = {step.get("name"): step for step in workflow()["jobs"]["benchmark"]["steps"]}
    assert steps["Install"]["run"] == 'python -m pip install "$VFM_ISBENCH"'
    assert workflow()["env"]["VFM_ISBENCH"].startswith("git+https://")


def test_the_workflow_fails_before_training_if_the_baseline_does_not_hold(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, [dataclasses.replace(one, protocol=one.protocol.replace(decay=0.9)) for one in baseline["demo"]])
    codes, output = run_steps(tmp_path, settings(tmp_path), python)
    assert codes == [0, 1], output
    assert (
        "decay 0.9 and " in output and "vfm-isbench baseline make my_upsampler.py:Upsampler --again baseline" in output
    )
    assert not (tmp_path / "runs").exists()


def test_the_steps_of_a_cached_baseline_are_commands() -> None:
    page = (EXAMPLES.parent / "ci.md").read_text(encoding="utf-8")
    (fence,) = [fence for fence in fences(page) if fence.language == "yaml"]
    *_, make = yaml.safe_load(fence.text)
    values = workflow()["env"]
    line = make["run"].replace('"base/$UPSAMPLER"', "base/mine.py:Upsampler")
    for name in ("PROTOCOL", "SEEDS"):
        line = line.replace(f"${name}", str(values[name]))
    program, *words = shlex.split(line)
    parsed = build_parser().parse_args(words)
    assert (program, parsed.seeds, parsed.protocol) == ("vfm-isbench", [0, 1, 2], "demo")


def test_the_workflow_needs_no_rights_and_runs_on_pull_requests() -> None:
    content = workflow()
    assert content["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the key "on" as true.
    assert "pull_request" in content[True]


def run_pytest(folder: Path, python: list[str]) -> tuple[int, str]:
    text = PYTEST.read_text(encoding="utf-8")
    for line, smaller in (
        (
            'PROTOCOL = vfm_isbench.Protocol.preset("demo")',
            "from tiny import TINY\n\nPROTOCOL = TINY.replace(epochs=1)",
        ),
        ("SEEDS = (0, 1, 2)", f"SEEDS = {SEEDS}"),
    ):
        assert text.count(f"{line}\n") == 1
        text = text.replace(line, smaller)
    (folder / "test_upsampler.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", "test_upsampler.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{PACKAGE}:{SUPPORT}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


def test_the_pytest_example_passes_a_rerun(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, baseline["tiny"])
    code, output = run_pytest(tmp_path, python)
    assert (code, "3 passed" in output) == (0, True), output


def test_the_pytest_example_fails_what_got_worse(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, [better(result) for result in baseline["tiny"]])
    code, output = run_pytest(tmp_path, python)
    assert (code, "1 failed, 2 passed" in output) == (1, True), output
    assert "regression: mean IoU is worse than the baseline" in output
