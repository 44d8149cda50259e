"""What is wrong with a submission: one line per finding, which the submission cannot use to forge another line."""

from __future__ import annotations

from dataclasses import dataclass

from vfm_isbench.storage.printable import printable

MOST = 1_000
"""How many findings are kept per file; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: The file, as the user named it.
        path: Field in the file, such as ``runs[0].datasets.scenes.objects[3].iou[2]``; "" for the whole file.
        text: What was found, and what was expected.
    """

    file: str
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return f"{printable(where, 400)}: {printable(self.text, 600)}"


class Report:
    """Collects the findings of one file: keeps the first :data:`MOST` and counts the rest.

    Attributes:
        file: The file, as the user named it.
        count: Number of findings so far.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0
        self._kept: list[Finding] = []

    def add(self, path: str, text: str) -> None:
        """Add a finding."""
        self.count += 1
        if len(self._kept) < MOST:
            self._kept.append(Finding(self.file, path, text))

    @property
    def findings(self) -> list[Finding]:
        """In order; the last line counts those left out."""
        left_out = self.count - len(self._kept)
        if not left_out:
            return list(self._kept)
        return [*self._kept, Finding(self.file, "", f"… and {left_out:,} more finding{'s' if left_out > 1 else ''}")]

    def may_concern(self, path: str) -> bool:
        """Whether a finding lies below a field, or a finding that was left out might."""
        return self.count > len(self._kept) or any(kept.path.startswith(f"{path}.") for kept in self._kept)

    def __bool__(self) -> bool:
        return self.count > 0
