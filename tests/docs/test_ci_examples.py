"""Runs the steps of the ready workflow, and the pytest example, with a tiny protocol."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TINY, UPSAMPLER

import vfm_isbench
from vfm_isbench import Result
from vfm_isbench.results.environment import package_versions

SUPPORT = Path(__file__).resolve().parents[1] / "support"
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
WORKFLOW = EXAMPLES / "upsampler-benchmark.yml"
PYTEST = EXAMPLES / "test_upsampler.py"
PACKAGE = Path(vfm_isbench.__file__).parents[1]

SMALLER = {
    "epochs": 1,
    "samples_per_epoch": 4,
    "batch_size": 2,
    "image_size": 64,
    "simple_vit_depth": 1,
    "simple_vit_hidden": 32,
    "max_clicks": 3,
    "object_limit": 3,
}
SEEDS = (0, 1, 2)
LAST = "Compare with the baseline"


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


def steps_by_name() -> dict[str, dict[str, Any]]:
    """The steps of the job; those without a name by the action that they use."""
    return {step.get("name", step.get("uses")): step for step in workflow()["jobs"]["benchmark"]["steps"]}


def run_steps(
    folder: Path, env: dict[str, str], python: list[str], *, first: str = "Check that the upsampler keeps the contract"
) -> tuple[dict[str, int], str]:
    """Run the steps that are commands as GitHub does for a pull request, from ``first`` up to the first failure.

    Returns:
        Exit codes by step, and output. The baseline is made only if the folder has none, as if it came from the cache.
    """
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "vfm-isbench").write_text(f'#!/bin/sh\nexec {shlex.join(python)} -m vfm_isbench "$@"\n')
    (commands / "vfm-isbench").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE), **env}
    is_cached = (folder / "baseline").exists()
    steps = [step for step in steps_by_name().values() if "run" in step]
    names = [step["name"] for step in steps]
    codes, output = {}, ""
    for step in steps[names.index(first) :]:
        if step.get("if") == "steps.baseline.outputs.cache-hit != 'true'" and is_cached:
            continue
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder / step.get("working-directory", "."),
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        codes[step["name"]] = done.returncode
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
        "GITHUB_OUTPUT": str(folder / "output.txt"),
    }


def test_the_workflow_makes_the_baseline_passes_a_rerun_and_fails_what_got_worse(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path / "base"):
        folder.mkdir(exist_ok=True)
        (folder / "my_upsampler.py").write_text(UPSAMPLER, encoding="utf-8")
    codes, output = run_steps(tmp_path, settings(tmp_path), python)
    assert list(codes) == [
        "Check that the upsampler keeps the contract",
        "Name the machine",
        "Make the baseline",
        "Check that the baseline still holds",
        "Train and evaluate, one run per seed",
        LAST,
    ]
    assert set(codes.values()) == {0}, output
    assert [path.name for path in sorted((tmp_path / "baseline").iterdir())] == [f"seed{s}.json" for s in SEEDS]
    key = (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"key=[a-z0-9_.+-]+-1-threads-torch-[a-z0-9_.+-]+-vfm_isbench-[a-z0-9_.+-]+\n", key), key
    assert "the baseline holds: nothing but the upsampler" in output
    verdict = json.loads((tmp_path / "verdict" / "regress.json").read_text(encoding="utf-8"))
    assert (verdict["verdict"], verdict["metric"], verdict["margin"]) == ("pass", "mean_iou", 0.01)
    # Another process gives the same numbers: seeds are paired, and nothing differs.
    assert verdict["datasets"][0]["worsening"]["value"] == 0
    assert verdict["datasets"][0]["first_seeds"] == [0, 1, 2]
    assert "vfm-isbench regress: pass" in (tmp_path / "job.md").read_text(encoding="utf-8")
    assert (tmp_path / "verdict" / "regress.md").is_file()

    # The last step again, against a better baseline, and against a baseline with another protocol.
    for raised, code, said in (
        ([better(result) for result in baseline["demo"]], 1, "regression: mean IoU is worse"),
        (baseline["tiny"], 3, "incomparable"),
    ):
        prepared(tmp_path, raised)
        codes, output = run_steps(tmp_path, settings(tmp_path), python, first=LAST)
        assert codes == {LAST: code}, output
        assert said in output


def unsettled(results: list[Result]) -> list[Result]:
    """Baselines that are far better with one seed and the same with the others: three seeds cannot tell."""
    return [better(results[0]), *results[1:]]


def test_the_workflow_fails_if_nobody_can_tell(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, unsettled(baseline["demo"]))
    for result in baseline["demo"]:
        result.save(tmp_path / "runs" / f"seed{result.protocol.seed}" / "result.json")
    codes, output = run_steps(tmp_path, settings(tmp_path), python, first=LAST)
    assert codes == {LAST: 4}, output
    assert "inconclusive: likely regression, not established" in output
    assert "inconclusive, likely a regression" in (tmp_path / "job.md").read_text(encoding="utf-8")


def test_the_step_that_is_not_run_here_installs_pinned_wheels_for_cpus() -> None:
    install, setup = steps_by_name()["Install"]["run"], steps_by_name()["actions/setup-python@v5"]["with"]
    assert install.splitlines() == [
        'python -m pip install $TORCH --index-url "$WHEELS"',
        'python -m pip install "$VFM_ISBENCH" $PINS $REQUIREMENTS',
    ]
    env = workflow()["env"]
    assert (
        env["VFM_ISBENCH"].startswith("git+")
        and env["VFM_ISBENCH"].endswith("@COMMIT")
        and env["WHEELS"].endswith("/cpu")
    )
    assert all(re.fullmatch(r"torch(vision)?==[\d.]+", one) for one in env["TORCH"].split())
    # Every package that is part of the key of the cache has a fixed version.
    pinned = [one.partition("==")[0] for one in f"{env['TORCH']} {env['PINS']}".split() if re.search(r"==[\d.]+$", one)]
    assert sorted(pinned) == sorted(set(package_versions()) - {"vfm_isbench"})
    assert env["REQUIREMENTS"] == ""
    # pip's cache needs a file to hash: the one that holds the versions.
    assert (setup["cache"], setup["cache-dependency-path"]) == ("pip", f".github/workflows/{WORKFLOW.name}")


def test_the_baseline_is_cached_by_machine_protocol_seeds_and_code() -> None:
    steps = steps_by_name()
    key = steps["Look for a baseline of this machine"]["with"]["key"]
    for part in ("steps.machine.outputs.key", "env.PROTOCOL", "env.SEEDS", "hashFiles('base/**/*.py')"):
        assert part in key
    assert steps["Name the machine"]["id"] == "machine" and "," not in key.partition("hashFiles")[0]
    # A job that fails keeps nothing, so the baseline is kept before anything can fail.
    names = list(steps)
    assert names.index("Make the baseline") + 1 == names.index("Keep the baseline") < names.index(LAST)
    assert steps["Keep the baseline"]["with"]["key"] == "${{ steps.baseline.outputs.cache-primary-key }}"
    assert workflow()["env"]["OMP_NUM_THREADS"] == 1
    assert len(str(workflow()["env"]["SEEDS"]).split()) >= 3


def test_the_workflow_fails_before_training_if_the_baseline_does_not_hold(
    baseline: dict[str, list[Result]], python: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, [dataclasses.replace(one, protocol=one.protocol.replace(decay=0.9)) for one in baseline["demo"]])
    codes, output = run_steps(tmp_path, settings(tmp_path), python)
    assert list(codes.values()) == [0, 0, 1], output
    assert (
        "decay 0.9 and " in output and "vfm-isbench baseline make my_upsampler.py:Upsampler --again baseline" in output
    )
    assert not (tmp_path / "runs").exists()


def test_a_machine_without_a_key_ends_the_job(tmp_path: Path) -> None:
    """An empty key would let every machine find the same baseline."""
    codes, _ = run_steps(tmp_path, settings(tmp_path), ["false"], first="Name the machine")
    assert codes == {"Name the machine": 1}
    assert not (tmp_path / "output.txt").exists()


def test_the_workflow_needs_no_rights_and_runs_on_pull_requests() -> None:
    content = workflow()
    assert content["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the key "on" as true.
    assert "pull_request" in content[True]


def run_pytest(folder: Path, python: list[str]) -> tuple[int, str]:
    text = PYTEST.read_text(encoding="utf-8")
    for line, smaller in (
        (
            'PROTOCOL = vfm_isbench.Protocol.preset("demo")  # the same, in Python: add .replace(FIELD=VALUE)',
            "from tiny import TINY\nfrom vfm_isbench.protocol import PRESETS\n\n"
            'PRESETS["tiny"] = TINY\nPROTOCOL = TINY.replace(epochs=1)',
        ),
        (
            'PROTOCOL_OPTIONS = ["--protocol", "demo"]',
            'PROTOCOL_OPTIONS = ["--protocol", "tiny", "--set", "epochs=1"]',
        ),
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


@pytest.mark.parametrize(
    ("baseline_of", "said"),
    [
        (lambda results: [better(result) for result in results], "regression: mean IoU is worse than the baseline"),
        (unsettled, "inconclusive: likely regression, not established"),
    ],
)
def test_the_pytest_example_fails_what_got_worse_or_nobody_can_tell(
    baseline_of: Callable[[list[Result]], list[Result]],
    said: str,
    baseline: dict[str, list[Result]],
    python: list[str],
    tmp_path: Path,
) -> None:
    prepared(tmp_path, baseline_of(baseline["tiny"]))
    code, output = run_pytest(tmp_path, python)
    assert (code, "1 failed, 2 passed" in output) == (1, True), output
    assert said in output
