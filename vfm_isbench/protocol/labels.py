"""Short names of a protocol's parts, for signatures and tables."""

from __future__ import annotations

from typing import Any

_USUAL_WIDTH = 128
"""Width of SimpleClick's pyramid."""


def head_label(protocol: Any) -> str:
    """The head with what decides its size: "conv2", "linear", "pyramid", "pyramid_w16".

    Args:
        protocol: A :class:`vfm_isbench.Protocol`; not annotated as such, because that class imports this module.
    """
    if protocol.head == "conv":
        return f"conv{protocol.head_layers}"
    if "pyramid" in protocol.head and protocol.pyramid_width != _USUAL_WIDTH:
        return f"{protocol.head}_w{protocol.pyramid_width}"
    return str(protocol.head)
