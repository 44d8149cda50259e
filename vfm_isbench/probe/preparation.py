"""Before a probe is built: the device, what protocol and upsampler decide about each other, the contract check."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vfm_isbench.backbones import Backbone
from vfm_isbench.backbones.table import TABLE, backbones_with, made_for
from vfm_isbench.errors import ChannelsError, ContractError, OutOfMemoryError, RunError, VfmIsbenchWarning
from vfm_isbench.probe.backbone_access import with_backbone
from vfm_isbench.probe.behaviour import backbone_behaviour, upsampler_behaviour
from vfm_isbench.probe.build import build_head, check_head
from vfm_isbench.probe.end_to_end import check_trained_parts
from vfm_isbench.probe.free_memory import require_memory
from vfm_isbench.probe.memory import first_line, is_out_of_memory
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers, settings_restored
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.types import Behaviour
from vfm_isbench.upsamplers import (
    ContractReport,
    LoadedUpsampler,
    UpsamplerIdentity,
    check_upsampler,
    find_module,
    fitting_backbones,
    freeze,
    identity_of,
)
from vfm_isbench.upsamplers.costs import call_memory
from vfm_isbench.upsamplers.freezing import modules_called
from vfm_isbench.upsamplers.identity import why_unidentified
from vfm_isbench.upsamplers.trial_inputs import Trial

_LACKING = "FeatUp's JBU was used without the channel norm, which its weights lack or which was switched off"
_OVERRULED = (
    "FeatUp's JBU was used without the channel norm although norm=true was given, because the protocol leaves it out: "
    "featup_channel_norm is False"
)

_NAMED = 6
"""How many backbones a message names."""

_HEAD_SIDE = 64
"""Rows and columns of its output on which the head is tried; the whole of it would take seconds on a CPU."""


def choose_device(device: str | torch.device) -> torch.device:
    """The device called ``device``; "auto" is CUDA if available, else the CPU.

    Returns:
        The device, with its index if it is a CUDA device: "cuda" is the current one.

    Raises:
        RunError: if this machine does not have it.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise RunError(
            f"there is no device {str(device)!r}; choose 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from error
    try:
        if chosen.type == "cuda":
            _check_index(chosen)
        return torch.empty(1, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0].rstrip('.')}. Leave it out "
            "(--device auto, device='auto') to use what there is"
        ) from error


def _check_index(device: torch.device) -> None:
    """Refuse a CUDA device whose number is too high, and name those that exist."""
    count = torch.cuda.device_count()
    if count and device.index is not None and device.index >= count:
        present = ", ".join(f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(count))
        raise RunError(f"there is no device {str(device)!r}: PyTorch finds {present}; choose one of these")


def follow_protocol(
    upsampler: LoadedUpsampler, protocol: Protocol
) -> tuple[LoadedUpsampler, Protocol, tuple[str, ...]]:
    """Settle what protocol and upsampler decide about each other: FeatUp's channel norm, and whether the head fits.

    The norm is left out if ``featup_channel_norm`` is off. If the weights have no norm, the field is switched off in
    the protocol that is returned, so that the fingerprint says so.

    Returns:
        The upsampler (a copy if it had to change), the protocol that the probe is trained under, and remarks for the
        result.
    """
    check_head(protocol, upsampler)
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


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of an upsampler once it was checked on its device.

    Attributes:
        upsampler: The upsampler, with the modules found by calling it.
        contract: Findings of the contract check.
        identity: Taken after the check, when lazy weights are there.
        behaviour: What "upsampler" and "backbone" make of fixed inputs; None if that is not deterministic.
        notes: Remarks for the result.
    """

    upsampler: LoadedUpsampler
    contract: ContractReport
    identity: UpsamplerIdentity
    behaviour: Mapping[str, Behaviour | None]
    notes: tuple[str, ...] = ()


@settings_restored()
def check_and_identify(
    upsampler: LoadedUpsampler,
    protocol: Protocol,
    backbone: Backbone,
    device: torch.device,
    declared: str | None = None,
    *,
    images_at_once: int | None = None,
) -> Checked:
    """Check an upsampler on its device, and establish which one it is and how it behaves.

    Args:
        upsampler: The upsampler.
        protocol: For the sizes.
        backbone: The backbone, on its device.
        device: The device.
        declared: What the user says it is, see :func:`vfm_isbench.upsamplers.identity_of`.
        images_at_once: Images in one pass of the training; None for a whole batch.

    Raises:
        ContractError: if it does not keep the contract, or is to be trained and cannot be.
        OutOfMemoryError: if it needs more memory than there is.
    """
    side = backbone.grid(protocol.image_size)
    with current_device(device):
        upsampler = with_backbone(upsampler, backbone)
        sizes = (backbone.channels, side, protocol.image_size)
        upsampler, notes = freeze_hidden_modules(upsampler, sizes, device, backbone)
        notes = (*notes, *_notes_on_backbone(upsampler, protocol), *_notes_on_fit(upsampler, protocol))
        contract = check_on_device(upsampler, protocol, backbone, device, images_at_once=images_at_once)
        notes = (*notes, *check_trained_parts(upsampler, protocol, backbone, device))
        identity = identity_of(upsampler, declared)
        behaviour = {
            "upsampler": upsampler_behaviour(upsampler, backbone.channels, side, protocol.image_size, device)
            if contract.deterministic
            else None,
            "backbone": backbone_behaviour(backbone, protocol.image_size, device),
        }
    if identity.sha256 is None:
        notes = (*notes, why_unidentified(upsampler))
    for note in notes:
        warnings.warn(note, VfmIsbenchWarning, stacklevel=3)
    return Checked(upsampler, contract, identity, behaviour, notes)


@torch.no_grad()
def freeze_hidden_modules(
    upsampler: LoadedUpsampler, sizes: tuple[int, int, int], device: torch.device, backbone: nn.Module | None = None
) -> tuple[LoadedUpsampler, tuple[str, ...]]:
    """Call an upsampler once, and freeze the modules that run in it but that no search finds.

    Such modules sit in other Python modules or class attributes, or are made on the first call.

    Args:
        upsampler: The upsampler.
        sizes: Channels, patches per side, and pixels per side.
        device: The device.
        backbone: The backbone, which an upsampler may call, and which is none of its own modules.

    Returns:
        The upsampler with its hidden modules, and notes for the result.
    """
    move_to(upsampler, device)
    freeze(upsampler)
    channels, side, pixels = sizes
    features, image = (
        torch.zeros(1, channels, side, side, device=device),
        torch.zeros(1, 3, pixels, pixels, device=device),
    )
    known = find_module(upsampler)
    visible = {id(part) for whole in (known, backbone) if whole is not None for part in whole.modules()}
    with contextlib.suppress(Exception, SystemExit):  # the contract check will say what is wrong
        called = modules_called(lambda: upsampler(features, image))
        hidden = tuple(module for module in called if id(module) not in visible)
        if hidden:
            names = ", ".join(sorted({type(module).__name__ for module in hidden}))
            note = (
                f"the upsampler runs modules that it does not hold itself ({names}); they were put into eval mode "
                "(train mode would use and change batch statistics) and frozen"
            )
            return freeze(dataclasses.replace(upsampler, hidden_modules=hidden)), (note,)
    return upsampler, ()


def _notes_on_backbone(upsampler: LoadedUpsampler, protocol: Protocol) -> tuple[str, ...]:
    """What readers should know of an upsampler that calls the backbone itself."""
    if upsampler.capabilities.bind_backbone is None or protocol.injection == "late":
        return ()
    return (
        f"the upsampler calls the backbone itself (needs_backbone): with injection {protocol.injection!r} the features "
        "it gets that way hold no clicks",
    )


def require_fit(upsampler: object, backbone: str) -> None:
    """Refuse a published upsampler on a backbone that, by the tables, has another number of channels.

    It takes nothing but the names, so that nothing is downloaded in vain.

    Args:
        upsampler: What the user gave: only names say anything here.
        backbone: Name of the protocol's backbone.

    Raises:
        ChannelsError: naming the backbones that fit.
    """
    fits = fitting_backbones(upsampler) if isinstance(upsampler, str) else ()
    channels = next((row.channels for row in TABLE if row.name == backbone), None)
    works_with = tuple(sorted({number for _, number in fits}))
    if not works_with or channels is None or channels in works_with:
        return
    fitting = " or ".join(f"{name} ({number} channels)" for name, number in fits)
    raise ChannelsError(
        f"{upsampler} was trained on the features of {fitting}, but {backbone} has {channels} channels; choose its "
        f"backbone: --backbone {fits[0][0]}",
        works_with,
    )


def _notes_on_fit(upsampler: LoadedUpsampler, protocol: Protocol) -> tuple[str, ...]:
    """What readers should know of a published upsampler on another backbone that happens to have as many channels."""
    fitting = [backbone for backbone, _ in fitting_backbones(upsampler.name)]
    if not fitting or protocol.backbone in fitting:
        return ()
    return (f"{upsampler.name} was trained on the features of {' or '.join(fitting)}, not of {protocol.backbone}",)


def move_to(upsampler: LoadedUpsampler, device: torch.device) -> None:
    """Move the modules of an upsampler to a device."""
    module = find_module(upsampler)
    if module is not None:
        module.to(device)


def check_on_device(
    upsampler: LoadedUpsampler,
    protocol: Protocol,
    backbone: Backbone,
    device: torch.device,
    *,
    images_at_once: int | None = None,
) -> ContractReport:
    """Move an upsampler to a device and check that it keeps the contract there, on features of a backbone's shape.

    Raises:
        ContractError: if it does not.
    """
    side = backbone.grid(protocol.image_size)
    upsampler = with_backbone(upsampler, backbone)
    return check_on_grid(upsampler, protocol, (side, side), backbone.channels, device, images_at_once=images_at_once)


@benchmark_settings()
def check_on_grid(
    upsampler: LoadedUpsampler,
    protocol: Protocol,
    grid: tuple[int, int],
    channels: int,
    device: torch.device,
    *,
    images_at_once: int | None = None,
) -> ContractReport:
    """The same on features channels×grid: memory, the contract, then a forward and a backward pass through the head.

    Raises:
        ContractError: if the contract is broken or a pass fails.
        OutOfMemoryError: if a call needs more memory than there is; on CPUs, the system would end the process.
    """
    with current_device(device):
        move_to(upsampler, device)
        image_size = (protocol.image_size, protocol.image_size)
        changes_features = protocol.train_backbone or protocol.granularity == "lora"
        needs_gradient = protocol.injection != "late" or changes_features
        images = min(images_at_once or protocol.batch_size, protocol.batch_size)
        two = Trial.smooth(channels, grid, image_size, device=device)
        need = call_memory(LoadedUpsampler.of(freeze(upsampler)), two, needs_gradient=needs_gradient)
        by_itself = upsampler.capabilities.needs_gradients
        require_memory(need, 1 if by_itself else images, device, f"the upsampler {upsampler.name!r}")
        try:
            report = check_upsampler(
                upsampler,
                channels=channels,
                grid=grid,
                image_size=image_size,
                device=device,
                needs_gradient=needs_gradient,
                batch_size=images,
            )
        except ContractError as error:
            if is_out_of_memory(error):
                raise _too_large(error, upsampler, images, device) from error
            if not isinstance(error, ChannelsError):
                raise
            who = " ".join(_backbones_with(number, upsampler.name) for number in error.works_with)
            raise ChannelsError(f"{error} {who}", error.works_with) from error
        trial = Trial.smooth(channels, grid, image_size, batch=1, device=device).channels_last()
        trial.features.requires_grad_(needs_gradient)
        # Layers draw their initial weights from the global generator.
        with own_random_numbers():
            torch.manual_seed(protocol.seed)
            head = build_head(protocol, channels).to(device).to(memory_format=torch.channels_last)
        _check_training_step(LoadedUpsampler.of(upsampler), head, trial)
        return dataclasses.replace(report, peak_bytes=None if need is None else need.of(1 if by_itself else images))


def _too_large(error: Exception, upsampler: LoadedUpsampler, images: int, device: torch.device) -> OutOfMemoryError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    fewer = "" if images == 1 else "use --images-at-once 1 (Speed(images_at_once=1)), or "
    return OutOfMemoryError(
        f"memory ran out when the upsampler {upsampler.name!r} was tried with {images} images on {device} "
        f"({first_line(cause)}), so nothing was trained: {fewer}free memory that other programs use, or choose a "
        "device that has more"
    )


def _backbones_with(channels: int, upsampler: str) -> str:
    """Which backbones and presets have features of so many channels, and which of them the upsampler was made for."""
    own = made_for(upsampler)
    fitting = [row.name for row in backbones_with(channels)]
    if own is not None and own.name in fitting:
        return f"{upsampler} was trained on the features of {own.name} (--backbone {own.name}).{_presets([own.name])}"
    if not fitting:
        return (
            f"No backbone of the table has {channels} channels (vfm-isbench list backbones --all); another one of timm "
            "may (--backbone timm:NAME[@STRIDE])."
        )
    more = ", …; vfm-isbench list backbones --all shows all" if len(fitting) > _NAMED else ""
    listed = f"Backbones with {channels} channels: {', '.join(fitting[:_NAMED])}{more} (--backbone NAME)."
    return f"{listed}{_presets(fitting)}"


def _presets(backbones: Sequence[str]) -> str:
    """Protocols with one of these backbones, as a further sentence."""
    presets = [name for name, preset in PRESETS.items() if preset.backbone in backbones]
    return f" Protocols with such a backbone: {', '.join(presets)} (--protocol NAME)." if presets else ""


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
