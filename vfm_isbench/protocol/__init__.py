"""The protocol: everything that changes a number, the presets, and the check of every field."""

from vfm_isbench.protocol import presets as _presets  # noqa: F401 - fills PRESETS
from vfm_isbench.protocol.protocol import PRESETS, PROTOCOL_REVISION, Protocol
from vfm_isbench.protocol.validation import Injection

__all__ = ["PRESETS", "PROTOCOL_REVISION", "Injection", "Protocol"]
