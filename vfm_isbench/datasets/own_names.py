"""Names of data sets that users bring along: ``folder:PATH`` and ``hf:OWNER/NAME``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vfm_isbench.errors import DataError
from vfm_isbench.protocol import Protocol

FOLDER, HUB = "folder:", "hf:"

OWN_DATASETS = {
    "folder:PATH": (
        "your own images and masks: PATH/images and PATH/masks, or PATH/index.csv (test sets only; with PATH/parts "
        "also for training)"
    ),
    "hf:OWNER/NAME[@REVISION][:SPLIT]": "image and mask columns of a data set on the Hugging Face hub (test sets only)",
}
"""How to name such data sets, for lists."""


def is_own(name: str) -> bool:
    """Whether a data set is one that the user brings along; nobody else need have it."""
    return name.startswith((FOLDER, HUB))


def recorded_name(name: str) -> str:
    """The name of a data set in results: of a folder, only its own name, because results travel.

    >>> recorded_name("folder:/home/me/My photos"), recorded_name("folder:sets/x/index.csv"), recorded_name("sbd")
    ('folder:My-photos', 'folder:x', 'sbd')
    """
    if not name.startswith(FOLDER):
        return name
    path = Path(name.removeprefix(FOLDER)).expanduser().resolve()
    if path.name == "index.csv":
        path = path.parent
    plain = re.sub(r"[^\w.-]+", "-", path.stem if path.suffix == ".csv" else path.name, flags=re.ASCII)
    return f"{FOLDER}{plain.strip('-') or 'unnamed'}"


def as_recorded(protocol: Protocol) -> Protocol:
    """The protocol as a result records it: the user's own data sets by :func:`recorded_name`.

    Raises:
        DataError: if two test sets would have the same name.
    """
    protocol = protocol.replace(
        train_dataset=recorded_name(protocol.train_dataset),
        validation_dataset=recorded_name(protocol.validation_dataset),
    )
    names = tuple(map(recorded_name, protocol.test_datasets))
    if names == protocol.test_datasets:
        return protocol
    twice = [given for given, name in zip(protocol.test_datasets, names, strict=True) if names.count(name) > 1]
    if twice:
        raise DataError(
            f"the test sets {' and '.join(twice)} have the same name, which results could not tell apart. Rename one "
            "of the folders."
        )
    return protocol.replace(test_datasets=names)


def as_given(recorded: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The names that a user gave, for names of :func:`recorded_name`; names that none of them fits stay."""
    by_name = {recorded_name(name): name for name in given}
    return tuple(by_name.get(name, name) for name in recorded)


def file_stem(name: str) -> str:
    """A file name for what belongs to a data set.

    >>> file_stem("sbd"), file_stem("hf:me/set@main:test")
    ('sbd', 'hf-me-set@main-test')
    """
    return re.sub(r"[^\w.@-]+", "-", name, flags=re.ASCII)
