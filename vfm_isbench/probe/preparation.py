"""Before a probe is built: the device, what protocol and upsampler decide about each other, the contract check."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import ContractError, RunError
from vfm_isbench.probe.build import build_head
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import ContractReport, LoadedUpsampler, check_upsampler, find_module
from vfm_isbench.upsamplers.trial_inputs import Trial

_LACKING = "FeatUp's JBU was used without the channel norm, which its weights lack or which was switched off"
_OVERRULED = (
    "FeatUp's JBU was used without the channel norm although norm=true was given, because the protocol leaves it out: "
    "featup_channel_norm is False"
)

_HEAD_SIDE = 64
"""Rows and columns of its output on which the head is tried; the whole of it would take seconds on a CPU."""


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
    """Move an upsampler to a device and check that it keeps the contract there, on features of a backbone's shape.

    Raises:
        ContractError: if it does not.
    """
    side = backbone.grid(protocol.image_size)
    return check_on_grid(upsampler, protocol, (side, side), backbone.channels, device)


def check_on_grid(
    upsampler: LoadedUpsampler, protocol: Protocol, grid: tuple[int, int], channels: int, device: torch.device
) -> ContractReport:
    """The same on features channels×grid: the contract, then a forward and a backward pass through the head.

    Raises:
        ContractError: if either fails.
    """
    module = find_module(upsampler)
    if module is not None:
        module.to(device)
    image_size = (protocol.image_size, protocol.image_size)
    needs_gradient = protocol.injection != "late"
    report = check_upsampler(
        upsampler,
        channels=channels,
        grid=grid,
        image_size=image_size,
        device=device,
        needs_gradient=needs_gradient,
        batch_size=protocol.batch_size,
    )
    trial = Trial.smooth(channels, grid, image_size, batch=1, device=device).channels_last()
    trial.features.requires_grad_(needs_gradient)
    # Layers draw their initial weights from the global generator; the fork preserves the caller's state.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        head = build_head(protocol, channels).to(device).to(memory_format=torch.channels_last)
    _check_training_step(LoadedUpsampler.of(upsampler), head, trial)
    return report


def _check_training_step(upsampler: LoadedUpsampler, head: nn.Module, trial: Trial) -> None:
    """Upsample as training does, and pass the gradient of the head's logits back."""
    try:
        with torch.no_grad():
            guidance = upsampler.encode_guidance(trial.image)
        with torch.set_grad_enabled(trial.features.requires_grad):
            upsampled = upsampler.upsample(trial.features, guidance)
        with torch.enable_grad():
            logits = head(upsampled[..., :_HEAD_SIDE, :_HEAD_SIDE])
            torch.autograd.backward(logits.square().mean())
    except RuntimeError as error:
        raise ContractError(
            f"the upsampler's output cannot be trained on: {type(error).__name__} in a forward and a backward pass "
            f"through the head: {error}; return a new tensor of floats that nothing else writes to"
        ) from error
    gradient = trial.features.grad
    if trial.features.requires_grad and (gradient is None or not bool(gradient.isfinite().all())):
        raise ContractError(
            "the gradient that the upsampler passes from the head to the features is missing, NaN or infinite; look "
            "for .detach(), divisions by zero and overflow in it, or use injection 'late'"
        )
