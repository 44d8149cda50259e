"""Installs the example plugin as the page says, without a network, and uses it on the command line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, fences

from vfm_isbench import Result

PAGE = DOCS / "plugins.md"
EXAMPLE = DOCS / "examples" / "plugin"


def commands() -> list[list[str]]:
    """The command lines of the page, word by word."""
    (block,) = [
        fence for fence in fences(PAGE.read_text(encoding="utf-8")) if fence.marker == "<!-- command: plugin -->"
    ]
    return [shlex.split(line) for line in block.text.replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which the page's command installs the example."""
    folder = tmp_path_factory.mktemp("example")
    # A copy, since the build leaves files beside the source.
    shutil.copytree(EXAMPLE, folder / EXAMPLE.relative_to(ROOT), ignore=shutil.ignore_patterns("build", "*.egg-info"))
    python, *install = commands()[0]
    assert (python, install[:3]) == ("python", ["-m", "pip", "install"])
    into = ["--quiet", "--disable-pip-version-check", "--no-index", "--target", str(folder / "site")]
    done = subprocess.run([sys.executable, *install, *into], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def run(python: list[str], arguments: list[str], site: Path, cwd: Path) -> str:
    """Output of a new Python process, which finds the installed package."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*python, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page(python: list[str], site: Path, tmp_path: Path) -> None:
    _, listing, check, training = commands()
    assert {command[0] for command in (listing, check, training)} == {"vfm-isbench"}
    ours = ["-m", "vfm_isbench"]
    printed = run(python, [*ours, *listing[1:]], site, tmp_path)
    texts = [fence.text for fence in fences(PAGE.read_text(encoding="utf-8"))]
    (shown,) = [text for text in texts if text.startswith("example_smooth ")]
    assert shown in printed, "the page shows this line of the list"
    assert "keeps the contract" in run(python, [*ours, *check[1:]], site, tmp_path)
    printed = run(python, [*ours, *training[1:], "--device", "cpu", "--output", "out", "--quiet"], site, tmp_path)
    assert "example_smooth · demo@2 protocol · example_stem" in printed
    result = Result.load(tmp_path / "out" / "result.json")  # here the package is not installed
    plugins = result.environment["plugins"]
    assert [tuple(plugin[key] for key in ("kind", "name", "package", "version")) for plugin in plugins] == [
        ("backbone", "example_stem", "isbench-example", "0.1.0"),
        ("click encoder", "example_pooled", "isbench-example", "0.1.0"),
        ("data set", "example_discs", "isbench-example", "0.1.0"),
        ("upsampler", "example_smooth", "isbench-example", "0.1.0"),
    ]
    hashes = {plugin["code_sha256"] for plugin in plugins}
    assert len(hashes) == 1 and None not in hashes
    assert {name: len(found.objects) for name, found in result.datasets.items()} == {"example_discs": 4}


def test_the_other_kinds_are_listed_without_importing_any(python: list[str], site: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom vfm_isbench import cli\n"
        "for kind in ('backbones', 'datasets', 'click_encoders'): cli.main(['list', kind])\n"
        "assert 'isbench_example' not in sys.modules\n"
    )
    lines = run(python, ["-c", program], site, tmp_path).splitlines()
    plugins = [line.split(None, 1) for line in lines if "plugin: " in line]
    assert plugins == [
        ["example_stem", "plugin: isbench-example 0.1.0 (isbench_example.backbone:make)"],
        ["example_discs", "plugin: isbench-example 0.1.0 (isbench_example.dataset:open_discs)"],
        ["example_pooled", "plugin: isbench-example 0.1.0 (isbench_example.click_encoder:Pooled)"],
    ]


def test_the_page_shows_the_entry_points_of_the_example() -> None:
    (shown,) = [fence.text for fence in fences(PAGE.read_text(encoding="utf-8")) if fence.language == "toml"]
    assert shown in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
