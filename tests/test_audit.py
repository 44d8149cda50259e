"""What the check script makes of pip-audit's answers: only an unreachable service skips the step."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"

GOOD: dict[str, Any] = {"name": "good", "version": "1.0", "vulns": []}
BAD: dict[str, Any] = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"]}]}
UNKNOWN: dict[str, Any] = {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited"}
NO_NETWORK = "Traceback (most recent call last):\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='x')"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(
    ("code", "output", "errors", "expected", "said"),
    [
        (0, answer(GOOD, UNKNOWN), "", 0, "no known vulnerability in 1 packages; not audited: own"),
        (1, answer(GOOD, BAD), "", 1, "bad 2.0: PYSEC-2026-1, fixed in 2.1"),
        (0, answer(GOOD, BAD), "", 1, "bad 2.0"),
        (0, answer(UNKNOWN, UNKNOWN), "", 0, "SKIPPED: the advisory service knows none of the 2 packages"),
        (1, "", NO_NETWORK, 0, "SKIPPED: the advisory service cannot be reached"),
        (1, "", "Traceback: KeyError: 'x'", 1, "pip-audit failed with code 1"),
        (2, answer(GOOD), "usage: pip-audit", 1, "pip-audit failed with code 2"),
        (0, "[]", "", 1, "pip-audit failed"),
    ],
)
def test_a_finding_or_a_failure_fails_and_only_a_missing_service_skips(
    audit: ModuleType, code: int, output: str, errors: str, expected: int, said: str
) -> None:
    found, message = audit.verdict(code, output, errors)
    assert (found, said in message) == (expected, True), message
