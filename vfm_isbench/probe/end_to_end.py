"""Backbone and upsampler that are trained with the probe: copies, so that nobody else's change, and with gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import ContractError, ProtocolError, VfmIsbenchError
from vfm_isbench.probe.backbone_access import with_backbone
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.upsamplers import LoadedUpsampler, Upsampler, find_module
from vfm_isbench.upsamplers.trial_inputs import Trial

_NAMED = 5
"""How many weights a note names."""

_FROZEN = "leave out train_upsampler=True (command line: --train-upsampler)"


def own_backbone(backbone: Backbone) -> Backbone:
    """A copy to be trained, which knows the hash of the weights that it starts from."""
    copied = copy.deepcopy(backbone)
    copied.start_sha256 = backbone.start_sha256 or weights_sha256(backbone)
    return copied


def own_upsampler(upsampler: Upsampler | LoadedUpsampler) -> LoadedUpsampler:
    """A copy to be trained.

    Modules that run in its calls, but that it does not hold itself, are not copied, and stay frozen.

    Raises:
        ContractError: if it cannot be copied, or the copy would share weights with it.
    """
    loaded = LoadedUpsampler.of(upsampler)
    shared = [loaded.backbone, *loaded.hidden_modules]  # the copy keeps these, as they are
    try:
        copied: LoadedUpsampler = copy.deepcopy(loaded, {id(part): part for part in shared if part is not None})
    except Exception as error:
        raise ContractError(
            f"the upsampler {loaded.name!r} is trained on a copy, and copy.deepcopy fails: {type(error).__name__}: "
            f"{error}. Give it a __deepcopy__ that works, or {_FROZEN}"
        ) from error
    same = {id(weight) for weight in _weights(loaded)} & {id(weight) for weight in _weights(copied)}
    if same:
        raise ContractError(
            f"the upsampler {loaded.name!r} is trained on a copy, but a copy shares {len(same)} weights with it, "
            "because a function holds them: give an nn.Module, or an object that has its modules as attributes, or "
            f"{_FROZEN}"
        )
    return copied


def _weights(upsampler: LoadedUpsampler) -> list[nn.Parameter]:
    module = find_module(upsampler.call)
    return [] if module is None else list(module.parameters())


def let_train(modules: Iterable[nn.Module]) -> None:
    """Let gradients reach the weights of modules; the counterpart of :func:`vfm_isbench.upsamplers.freeze`."""
    for module in modules:
        for weight in module.parameters():
            if weight.is_floating_point():
                weight.requires_grad_()


def check_trained_parts(
    upsampler: LoadedUpsampler, protocol: Protocol, backbone: Backbone, device: torch.device
) -> tuple[str, ...]:
    """Check that whatever of upsampler and backbone the protocol trains can be trained, on copies.

    Args:
        upsampler: The upsampler, on its device; it keeps its contract.
        protocol: What is trained, and the sizes.
        backbone: The backbone, on its device.
        device: The device.

    Returns:
        Notes on weights of the upsampler that no gradient reaches.

    Raises:
        ContractError: if the upsampler has no weights, no gradient reaches any of them, or it cannot be copied.
        ProtocolError: the same for the backbone.
    """
    side = backbone.grid(protocol.image_size)
    pixels = (protocol.image_size, protocol.image_size)
    trial = Trial.smooth(backbone.channels, (side, side), pixels, batch=1, device=device)
    notes: tuple[str, ...] = ()
    if protocol.train_upsampler:
        what = f"the upsampler {upsampler.name!r}"
        if not _weights(upsampler):
            raise ContractError(f"{what} holds no weights that could be trained: {_FROZEN}")
        if upsampler.capabilities.needs_gradients:
            raise ContractError(
                f"{what} optimises per image (needs_gradients = True), so no gradient reaches its weights: {_FROZEN}"
            )
        own = with_backbone(own_upsampler(upsampler), backbone)
        module = find_module(own.call)
        assert module is not None, "it holds weights"
        advice = f"look for torch.no_grad(), torch.inference_mode(), .detach() and .data in it, or {_FROZEN}"
        notes += _reached(what, module, lambda: own(trial.features, trial.image), ContractError, advice)
    if protocol.train_backbone:
        what = f"the backbone {protocol.backbone!r}"
        advice = "leave out train_backbone=True (command line: --train-backbone)"
        if not any(True for _ in backbone.parameters()):
            raise ProtocolError(f"{what} holds no weights that could be trained: {advice}")
        trained = own_backbone(backbone)
        # Many hold layers behind their features, which nothing uses: no note on them.
        _reached(what, trained, lambda: trained(trial.image), ProtocolError, advice)
    return notes


def _reached(
    what: str, module: nn.Module, call: Callable[[], Tensor], refusal: type[VfmIsbenchError], advice: str
) -> tuple[str, ...]:
    """Pass a gradient back through a call, and name the weights that it does not reach.

    Raises:
        VfmIsbenchError: of the kind ``refusal``, if it reaches none.
    """
    let_train([module.eval()])
    try:
        with torch.enable_grad():
            output = call()
            if output.requires_grad:
                # Random weights: the plain sum is constant where outputs are normalised, and its gradient zero.
                noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
                torch.autograd.backward((output * noise).sum())
    except RuntimeError as error:
        raise refusal(f"{what} cannot be trained: its gradient cannot be computed ({error}); {advice}") from error
    gradients = {name: weight.grad for name, weight in module.named_parameters()}
    bad = [name for name, gradient in gradients.items() if gradient is not None and not bool(gradient.isfinite().all())]
    if bad:
        raise refusal(f"{what} cannot be trained: the gradient of {_names(bad)} is NaN or infinite; {advice}")
    unreached = [name for name, gradient in gradients.items() if gradient is None or not bool(gradient.any())]
    if len(unreached) == len(gradients):
        raise refusal(f"{what} cannot be trained: no gradient, or only zeros, reaches {_names(unreached)}; {advice}")
    if not unreached:
        return ()
    return (
        f"{what} is trained, but in a trial no gradient reached {len(unreached)} of its {len(gradients)} weights: "
        f"{_names(unreached)}",
    )


def _names(weights: list[str]) -> str:
    more = f" and {len(weights) - _NAMED} more" if len(weights) > _NAMED else ""
    return f"{', '.join(weights[:_NAMED])}{more}"
