"""What is wrong with a submission: a line per finding, in which nothing of the submission can forge another line."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 120
"""Characters of a submission's text that a message quotes."""

MOST = 1_000
"""Findings of one file that are kept; of further ones only the number is told."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: The file, as it was named.
        path: Field within it, as ``runs[0].datasets.scenes.objects[3].iou[2]``; "" for the file as a whole.
        text: What was found, and what was expected.
    """

    file: str
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return f"{printable(where, 400)}: {printable(self.text, 600)}"


class Report:
    """Gathers the findings of one file: the first :data:`MOST`, and how many more there are.

    Attributes:
        file: The file, as it was named.
        count: Findings so far, those left out included.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0
        self._kept: list[Finding] = []

    def add(self, path: str, text: str) -> None:
        """Note a finding."""
        self.count += 1
        if len(self._kept) < MOST:
            self._kept.append(Finding(self.file, path, text))

    @property
    def findings(self) -> list[Finding]:
        """In the order in which they were noted; a line with the number of those left out at the end."""
        left_out = self.count - len(self._kept)
        if not left_out:
            return list(self._kept)
        return [*self._kept, Finding(self.file, "", f"… and {left_out:,} more finding{'s' if left_out > 1 else ''}")]

    def may_concern(self, path: str) -> bool:
        """Whether a finding lies below a field, or one that was left out may."""
        return self.count > len(self._kept) or any(one.path.startswith(f"{path}.") for one in self._kept)

    def __bool__(self) -> bool:
        return self.count > 0


def printable(text: str, longest: int = LONGEST) -> str:
    r"""A text as it may be written to a terminal or a log: one line, nothing invisible, not too long.

    Control characters, line breaks, marks that change the direction of writing and lone surrogates are written as
    escapes.

    >>> printable("mine\nother.json.gz: fine\x1b[2J")
    'mine\\nother.json.gz: fine\\x1b[2J'
    """
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text[: longest + 1]
    )
    return shown if len(shown) <= longest and len(text) <= longest else f"{shown[: longest - 1]}…"


def quote(value: object) -> str:
    """A value of a submission as a message shows it: its JSON-like form, printable, shortened."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return printable(repr(value), LONGEST)
