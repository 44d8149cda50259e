"""What is recorded about the machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import vfm_isbench
from vfm_isbench import cli
from vfm_isbench.results import describe_environment
from vfm_isbench.results.environment import library_sha256
from vfm_isbench.results.environment_difference import environment_key


def test_versions_and_hardware() -> None:
    environment = describe_environment(torch.device("cpu"))
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu" and environment["cuda"] is None
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert environment["threads"] == torch.get_num_threads()
    assert environment["cpu"] and isinstance(environment["cpu_count"], int)
    for package in ("vfm_isbench", "torchvision", "timm", "numpy", "scipy", "python"):
        assert environment[package], package
    assert json.loads(json.dumps(environment)) == environment


def test_the_hash_of_the_library_tells_edits_of_what_takes_part_in_a_run(tmp_path: Path) -> None:
    package = tmp_path / "vfm_isbench"
    shutil.copytree(Path(vfm_isbench.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    unchanged = library_sha256()
    assert unchanged == describe_environment(torch.device("cpu"))["vfm_isbench_code"]

    def after_editing(file: str) -> str | None:
        with (package / file).open("a", encoding="utf-8") as code:
            code.write("\n# edited\n")
        return library_sha256(package)

    assert after_editing("cli/regress.py") == unchanged
    assert after_editing("results/table.py") == unchanged
    edited = [after_editing(file) for file in ("training/loop.py", "clicks/clicker.py", "benchmark.py")]
    assert len({unchanged, None, *edited}) == 5
    assert library_sha256(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": "another processor"},
        {"cpu_capability": "AVX512"},
        {"threads": 64},
        {"torch": "9.9"},
        {"numpy": "9.9"},
        {"vfm_isbench": "9.9"},
        {"vfm_isbench_code": "f" * 64},
        {"platform": "Windows-11-10.0.22631-SP0"},
        {"device": "NVIDIA H100"},
    ],
)
def test_the_key_differs_with_all_that_decides_the_last_digits(changes: dict[str, Any]) -> None:
    environment = describe_environment(torch.device("cpu"))
    key = environment_key(environment)
    assert environment_key({**environment, "python": "9.9", "cpu_count": 99}) == key
    assert environment_key({**environment, **changes}) != key
    # Keys of caches may not hold commas, and at most 512 characters.
    assert re.fullmatch(r"[a-z0-9_.+-]{20,200}", key)


def test_the_key_names_the_machine_of_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["baseline", "key", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed == environment_key(describe_environment(torch.device("cpu"))) + "\n"
    assert f"-{torch.get_num_threads()}-threads-torch-{torch.__version__}-".lower() in printed
