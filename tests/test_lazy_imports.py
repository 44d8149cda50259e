"""Libraries that take seconds to import, and that most uses do not need, are imported where they are needed."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("timm", "torchvision", "torch._dynamo", "scipy.stats", "pandas", "matplotlib", "peft", "transformers")


def test_neither_the_package_nor_the_command_line_imports_slow_libraries() -> None:
    code = f"import sys, vfm_isbench.cli, vfm_isbench.leaderboard; print([m for m in {SLOW} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
