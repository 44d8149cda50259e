"""Before a probe is built: the device, what protocol and upsampler decide about each other, the contract check."""

from __future__ import annotations

import dataclasses

import torch

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import RunError
from vfm_isbench.probe.torch_state import settings_restored
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import ContractReport, LoadedUpsampler, check_upsampler, find_module

_LACKING = "FeatUp's JBU was used without the channel norm, which its weights lack or which was switched off"
_OVERRULED = (
    "FeatUp's JBU was used without the channel norm although norm=true was given, because the protocol leaves it out: "
    "featup_channel_norm is False"
)


def choose_device(device: str | torch.device) -> torch.device:
    """The device called ``device``; "auto" is CUDA if available, else the CPU.

    Raises:
        RunError: if this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return chosen


def follow_protocol(
    upsampler: LoadedUpsampler, protocol: Protocol
) -> tuple[LoadedUpsampler, Protocol, tuple[str, ...]]:
    """Settle what protocol and upsampler decide about each other, which is FeatUp's channel norm.

    The norm is left out if ``featup_channel_norm`` is off. If the weights have no norm, the field is switched off in
    the protocol that is returned, so that the fingerprint says so.

    Returns:
        The upsampler (a copy if it had to change), the protocol that the probe is trained under, and remarks for the
        result.
    """
    source = upsampler.source or {}
    remarks = [f"loading the upsampler warned: {text}" for text in source.get("warnings", ())]
    has_norm = upsampler.capabilities.channel_norm
    if has_norm is None:
        return upsampler, protocol, tuple(remarks)
    wanted = protocol.featup_channel_norm
    in_use = wanted and has_norm
    if wanted and not in_use:
        remarks.append(_LACKING)
    if has_norm and not wanted and source.get("norm_asked"):
        remarks.append(_OVERRULED)
    is_changed = has_norm and not in_use
    if is_changed:
        upsampler = upsampler.without_channel_norm()
    if source and (is_changed or source.get("channel_norm", in_use) is not in_use):
        upsampler = dataclasses.replace(upsampler, source={**source, "channel_norm": in_use})
    return upsampler, protocol.replace(featup_channel_norm=in_use), tuple(remarks)


def check_on_device(
    upsampler: LoadedUpsampler, protocol: Protocol, backbone: Backbone, device: torch.device
) -> ContractReport:
    """Move an upsampler to a device and check that it keeps the contract there.

    Raises:
        ContractError: if it does not.
    """
    module = find_module(upsampler)
    if module is not None:
        module.to(device)
    side = backbone.grid(protocol.image_size)
    with settings_restored():
        return check_upsampler(
            upsampler,
            channels=backbone.channels,
            grid=(side, side),
            image_size=(protocol.image_size, protocol.image_size),
            device=device,
            needs_gradient=protocol.injection != "late",
        )
