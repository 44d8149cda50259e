"""What a result file does not know, and other formats ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vfm_isbench.errors import ResultError
from vfm_isbench.results.display import shortened
from vfm_isbench.results.intervals import CONFIDENCE

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w./-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set on the Hugging Face Hub.

    Attributes:
        repository: Its id, OWNER/NAME.
        revision: Commit, branch or tag; None if it was not given.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> HubDataset:
        """Read OWNER/NAME or OWNER/NAME@REVISION.

        Raises:
            ResultError: if it is neither.
        """
        repository, at, revision = text.partition("@")
        if not is_repository(repository) or (at and not _REVISION.fullmatch(revision)):
            raise ResultError(
                f"{shortened(repr(text))} is not a data set of the Hugging Face Hub; expected OWNER/NAME or "
                "OWNER/NAME@REVISION"
            )
        return cls(repository, revision or None)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export says about results, besides what is in them.

    Attributes:
        metrics: Names of scores, such as "noc90" or "iou_at_1"; None for those of the format.
        confidence: Confidence of the two-sided intervals, in (0, 1).
        model: The model's id on the Hub, OWNER/NAME.
        hub_datasets: Data sets on the Hub, as OWNER/NAME or OWNER/NAME@REVISION, by the name of the test set; the key
            "" stands for all test sets that are not named.
        source_url: Where readers find more about the evaluation.
        source_name: Who or what that is; needs ``source_url``.

    Raises:
        ResultError: if a value cannot be used.
    """

    metrics: Sequence[str] | None = None
    confidence: float = CONFIDENCE
    model: str | None = None
    hub_datasets: Mapping[str, str] = field(default_factory=dict)
    source_url: str | None = None
    source_name: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ResultError(f"the confidence must lie between 0 and 1, such as 0.95; got {self.confidence}")
        if self.model is not None and not is_repository(self.model):
            raise ResultError(f"the model {shortened(repr(self.model))} is not an id of the Hub; expected OWNER/NAME")
        if self.source_name is not None and self.source_url is None:
            raise ResultError("a source has a name only beside its address: give --source-url (source_url=…) too")
        if self.source_url is not None and not re.fullmatch(r"https?://\S+", self.source_url):
            raise ResultError(f"the source {shortened(repr(self.source_url))} is not an address; expected https://…")
        for text in self.hub_datasets.values():
            HubDataset.of(text)

    def hub_dataset(self, name: str) -> HubDataset | None:
        """The data set on the Hub that was given for a test set."""
        text = self.hub_datasets.get(name, self.hub_datasets.get(""))
        return None if text is None else HubDataset.of(text)


def is_repository(text: str) -> bool:
    """Whether a text has the form OWNER/NAME.

    >>> is_repository("cais/hle"), is_repository("../etc"), is_repository("no-owner")
    (True, False, False)
    """
    return len(text) <= 200 and ".." not in text and _REPOSITORY.fullmatch(text) is not None
