"""Short names of a protocol's parts, for signatures and tables."""

from __future__ import annotations

from typing import Any

from vfm_isbench.protocol.clicker import clicks_label

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


def granularity_label(protocol: Any) -> str:
    """How granularity is used, with the rank of adapters and the value of the evaluation: "lora8@0.5"."""
    rank = protocol.lora_rank if "lora" in protocol.granularity else ""
    at_test = protocol.granularity_at_test
    return f"{protocol.granularity}{rank}" + ("" if at_test is None else f"@{at_test:g}")


def signature_parts(protocol: Any) -> list[str]:
    """The parts of a signature that describe the network, the clicks and what is trained."""
    parts = [
        f"bb:{protocol.backbone}",
        f"enc:{protocol.click_encoder}",
        f"inj:{protocol.injection}",
        f"head:{head_label(protocol)}",
        f"px:{protocol.image_size}",
        f"clicks:{clicks_label(protocol.clicker, protocol.max_clicks)}",
        f"flip:{'yes' if protocol.flip_test else 'no'}",
    ]
    if protocol.trained_parts:
        parts.append(f"train:{'+'.join(protocol.trained_parts)}")
    if protocol.granularity != "none":
        parts.append(f"gran:{granularity_label(protocol)}")
    return parts
