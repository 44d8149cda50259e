"""Asks for known vulnerabilities of the installed packages with pip-audit.

Exit code 0: none is known, or the advisory service cannot be reached, which is said on standard error.
Exit code 1: there is one, or pip-audit itself fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
UNREACHABLE = re.compile(r"\b(ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries exceeded)\b")


def verdict(code: int, output: str, errors: str) -> tuple[int, str]:
    """Exit code and message for what pip-audit did.

    pip-audit fails with a traceback without a network. It ends with code 0 where a mirror of the package index answers
    without advisories: it then says of every package that it "could not be audited".
    """
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if code != 0 and UNREACHABLE.search(errors):
            return 0, "SKIPPED: the advisory service cannot be reached; no package was audited"
        return 1, f"pip-audit failed with code {code}:\n{errors[-3000:]}"
    audited = [package for package in found if "skip_reason" not in package]
    vulnerable = [package for package in audited if package.get("vulns")]
    if vulnerable:
        lines = [
            f"{package['name']} {package['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions']) or '-'}"
            for package in vulnerable
            for entry in package["vulns"]
        ]
        return 1, "\n".join(["known vulnerabilities:", *lines])
    if code != 0:
        return 1, f"pip-audit failed with code {code}:\n{errors[-3000:]}"
    if not audited:
        return 0, f"SKIPPED: the advisory service knows none of the {len(found)} packages; no package was audited"
    left_out = [package["name"] for package in found if "skip_reason" in package]
    more = f"; not audited: {', '.join(left_out)}" if left_out else ""
    return 0, f"no known vulnerability in {len(audited)} packages{more}"


def main() -> int:
    """Run pip-audit and print the verdict."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        code, message = 0, "SKIPPED: the advisory service did not answer within 300 seconds; no package was audited"
    else:
        code, message = verdict(done.returncode, done.stdout, done.stderr)
    print(f"pip-audit: {message}")
    return code


if __name__ == "__main__":
    sys.exit(main())
