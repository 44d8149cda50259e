"""The protocol (everything that changes a number), its presets, and the rules for its fields."""

from vfm_isbench.protocol import presets as _presets  # noqa: F401 - fills PRESETS
from vfm_isbench.protocol.fields import ProtocolFields
from vfm_isbench.protocol.protocol import NOT_IN_FINGERPRINT, PRESETS, PROTOCOL_REVISION, Protocol, versions_of
from vfm_isbench.protocol.validation import Injection

__all__ = [
    "NOT_IN_FINGERPRINT",
    "PRESETS",
    "PROTOCOL_REVISION",
    "Injection",
    "Protocol",
    "ProtocolFields",
    "versions_of",
]
