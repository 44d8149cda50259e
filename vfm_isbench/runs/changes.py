"""Fields of the protocol that matter in the evaluation only: a trained probe can be evaluated with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfm_isbench.clicks import PeopleFile
from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.registry.registry import unknown_name

EVALUATION_FIELDS = (
    "max_clicks",
    "clicker",
    "flip_test",
    "prediction_threshold",
    "zoom_in",
    "zoom_threshold",
    "zoom_expansion",
    "zoom_min_size",
    "zoom_recompute_iou",
)
"""Fields that no training reads."""


def changed_in_evaluation(protocol: Protocol, fields: Mapping[str, Any]) -> Protocol:
    """The protocol of a trained probe with other values of some evaluation fields.

    Raises:
        ProtocolError: if a field matters in training, too, does not exist, or gets an invalid value.
    """
    known = protocol.to_dict()
    for name in fields:
        if name not in known:
            raise ProtocolError(str(unknown_name("protocol field", name, list(EVALUATION_FIELDS))))
        if name not in EVALUATION_FIELDS:
            raise ProtocolError(
                f"protocol field {name} decided how the probe was trained, so an evaluation cannot change it; fields "
                f"that it can change: {', '.join(EVALUATION_FIELDS)}"
            )
    return protocol.replace(**fields)


def with_people(protocol: Protocol) -> tuple[Protocol, PeopleFile | None]:
    """Open the file of people's clicks that a protocol names, if it names one.

    Returns:
        The protocol as results record it, with the name of the file and the start of its hash in place of its path; and
        the clicks.

    Raises:
        DataError: if the file cannot be used.
    """
    file = Clicker.parse(protocol.clicker).file
    if not file:
        return protocol, None
    people = PeopleFile(file)
    return protocol.replace(clicker=f"realistic:{people.name}"), people


def check_clicker(protocol: Protocol) -> None:
    """Refuse a run whose clicks come from a file, before it trains.

    Raises:
        ProtocolError: if they do.
    """
    if Clicker.parse(protocol.clicker).file:
        raise ProtocolError(
            f"a run cannot have the click pattern {protocol.clicker}: train with another one, then evaluate with "
            f"vfm-isbench eval RUN --clicker {protocol.clicker}"
        )
