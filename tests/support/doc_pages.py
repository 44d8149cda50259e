"""The pages of the documentation and their contents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [*sorted(DOCS.rglob("*.md")), README]

NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
OUTPUT = "<!-- output -->"


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, text, line of the first text line (from 1), and the marker before it."""

    language: str
    text: str
    line: int
    marker: str


def fences(text: str) -> list[Fence]:
    found = []
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        opening = re.match(r"( *)```(\w*)", line)
        if opening is None:
            continue
        if start is None:
            start = number
            continue
        indent, language = re.match(r"( *)```(\w*)", lines[start]).groups()
        body = "".join(inside.removeprefix(indent) + "\n" for inside in lines[start + 1 : number])
        before = next((above.strip() for above in reversed(lines[:start]) if above.strip()), "")
        found.append(Fence(language, body, start + 2, before if before.startswith("<!--") else ""))
        start = None
    assert start is None, f"the fence opened in line {start and start + 1} is not closed"
    return found


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Targets of relative links and pictures, without anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def repository_paths(text: str) -> list[str]:
    """Everything that looks like a path of this repository, in prose and in blocks."""
    found = re.findall(r"(?<![\w./-])((?:vfm_isbench|tests|docs|benchmarks|\.ci)/[\w./-]*)", text)
    return [path.rstrip(".") for path in found]


def command_lines(text: str) -> list[str]:
    """Our command lines: in blocks, and between single back-ticks if they have arguments."""
    blocks = [fence.text.replace("\\\n", " ") for fence in fences(text) if fence.language in ("bash", "console", "sh")]
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in re.split(r"&&|\|\||;", line)]
    inline = re.findall(r"`(vfm-isbench [^`\s]+ [^`]+)`", prose(text))
    ours = [line.removeprefix("$ ") for line in [*lines, *inline]]
    return [line for line in ours if re.match(r"(vfm-isbench|python3? -m vfm_isbench) ", line)]
