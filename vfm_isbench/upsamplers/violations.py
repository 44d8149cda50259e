"""What breaks the contract ``(features, image) -> features``: each rule, and the error that names what was seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers.base import Upsampler
from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import STYLES, Adapted, ByKeyword

_ORDINARY = "finite features"
"""Inputs with nothing special about them, in messages."""

WORKED_BEFORE = (
    "The same call worked before: look for state that it keeps between calls, such as a cache, a counter or a buffer "
    "that fills up, and for random failures."
)
"""What to do about a call that fails although an equal one has worked."""


class CallError(ContractError):
    """A call of the upsampler failed.

    Args:
        seen: What happened.
        advice: What to do, unless a cause is found by trying.
        batch: Number of images it was called with.
    """

    def __init__(self, seen: str, advice: str, batch: int) -> None:
        super().__init__(f"{seen} {advice}")
        self.seen = seen
        self.batch = batch


def check_callable(upsampler: object) -> None:
    """Check that an upsampler can be called at all.

    Raises:
        ContractError: if not.
    """
    if not callable(upsampler):
        raise ContractError(
            f"the upsampler is of type {type(upsampler).__name__}, which cannot be called; "
            "give a callable (features B×C×h×w, image B×3×H×W) -> B×C×H'×W'"
        )


def shape_of(tensor: Tensor) -> str:
    """A tensor's shape as it stands in messages: 2×384×16×16."""
    return "×".join(map(str, tensor.shape)) or "a scalar"


def call_checked(
    upsampler: Upsampler, features: Tensor, image: Tensor, *, case: str = _ORDINARY, is_repeated: bool = False
) -> Tensor:
    """Call an upsampler with copies of ``features`` B×C×h×w and ``image`` B×3×H×W, and check what comes back.

    ``case`` tells the user what is special about them, ``is_repeated`` that an equal call has worked.

    Raises:
        ContractError: for whatever a single call can show to break the contract.
    """
    given = (features.clone(), image.clone())
    output: Any = call_caught(upsampler, *given, case=case, is_repeated=is_repeated)
    check_output(output, features, image, case=case)
    for name, before, after in (("features", features, given[0]), ("image", image, given[1])):
        if not torch.equal(before, after):
            raise ContractError(
                f"the upsampler changed the {name} it was given in place; others still use that tensor: work on a copy "
                f"({name}.clone())"
            )
    return output  # type: ignore[no-any-return]


def call_caught(
    upsampler: Upsampler, features: Tensor, image: Tensor, *, case: str = _ORDINARY, is_repeated: bool = False
) -> Any:
    """Call an upsampler; see :func:`call_checked`, which also checks what comes back.

    Raises:
        CallError: if it raises.
    """
    try:
        return upsampler(features, image)
    except ContractError as error:
        raise CallError(
            f"{error}.",
            "A learned upsampler works on features of the backbone it was trained for: choose that one (command line: "
            "--backbone NAME), or other weights",
            len(features),
        ) from error
    except (Exception, SystemExit) as error:
        raise CallError(
            f"the upsampler raised {type(error).__name__}: {error}\nIt was called with (features {shape_of(features)}, "
            f"image {shape_of(image)}){_manner(upsampler)}, both {features.dtype} on {features.device}.",
            WORKED_BEFORE if is_repeated else _advice(upsampler, str(error), features, case),
            len(features),
        ) from error


def _call_of(upsampler: Upsampler) -> Callable[..., Any]:
    """What is called, below what only watches the calls."""
    call = upsampler.call if isinstance(upsampler, LoadedUpsampler) else upsampler
    watched: Callable[..., Any] = getattr(call, "__wrapped__", call)
    return watched


def _manner(upsampler: Upsampler) -> str:
    """How an upsampler gets features and image."""
    call = _call_of(upsampler)
    if isinstance(call, Adapted):
        return f" in the style {call.style!r}"
    if isinstance(call, ByKeyword):
        names = {"features": call.features, "image": call.image, "output size": call.size}
        return f" with {', '.join(f'the {what} as {name}=…' for what, name in names.items() if name is not None)}"
    return " by position, in that order"


def _arguments(upsampler: Upsampler) -> str:
    """Features and image as they stand in a call of an upsampler."""
    call = _call_of(upsampler)
    if isinstance(call, Adapted):
        return call.arguments
    if isinstance(call, ByKeyword):
        given = ((call.features, "features"), (call.image, "image"))
        return ", ".join(what if name is None else f"{name}={what}" for name, what in given)
    return "features, image"


def _advice(upsampler: Upsampler, message: str, features: Tensor, case: str) -> str:
    """What to do about an exception that an upsampler raised."""
    if "does not require grad" in message:
        return (
            "If it optimises something for each image, declare needs_gradients = True: it is then called with "
            "gradients enabled. Create what it optimises inside the call, because weights of its modules are frozen."
        )
    if features.requires_grad and "numpy" in message:
        return (
            "With this injection (early, pre_upsampler) the click encoder is trained through the upsampler, and no "
            "gradient passes through numpy: compute with torch's operations, or use injection 'late'."
        )
    if case != _ORDINARY:
        return f"It accepted others, but not {case}, which occurs in photographs and features, too."
    if not features.is_contiguous():
        return (
            "It accepted the same features in contiguous memory, but not with the channels last, as several backbones "
            "return them: use .reshape() in place of .view(), or call .contiguous() first."
        )
    if missing := re.search(r"missing \d+ required (?:positional|keyword-only) arguments?: (.+)", message):
        more = ", ".join(f"{name}=…" for name in re.findall(r"'(\w+)'", missing[1]))
        return (
            "The benchmark gives an upsampler only features and image. Give it the rest yourself: "
            f"lambda features, image: up({_arguments(upsampler)}, {more})."
        )
    return (
        "If it takes its arguments in another way, wrap it with vfm_isbench.upsamplers.adapt(upsampler, style), with "
        f"the style {', '.join(STYLES[1:-1])} or {STYLES[-1]}; if it is a module, its weights must be on the same "
        "device. Training calls it with whole batches, evaluation with one image or two."
    )


class OrderError(ContractError):
    """The output has its dimensions in another order."""


def check_output(output: Any, features: Tensor, image: Tensor, *, case: str = _ORDINARY) -> None:
    """Check what an upsampler returned for ``features`` B×C×h×w and ``image`` B×3×H×W.

    Raises:
        ContractError: if that is not B×C×H'×W' finite floats on the features' device, H'×W' at least h×w.
    """
    expected = f"expected one tensor {features.shape[0]}×{features.shape[1]}×H'×W' of floats on {features.device}"
    if not isinstance(output, Tensor):
        kind = "None" if output is None else f"a value of type {type(output).__name__}"
        if isinstance(output, (tuple, list)):
            kind += f" ({', '.join(type(part).__name__ for part in output)})"
        advice = "return the upsampled features alone"
        if callable(output):
            advice = "it looks like a factory: give what it returns (in a name, its arguments come as ?key=value)"
        elif type(output).__module__ == "numpy":
            advice = "return torch.from_numpy(...) on the features' device"
        raise ContractError(f"the upsampler returned {kind}; {expected}: {advice}")
    given = f"features {shape_of(features)} and image {shape_of(image)}"
    seen = f"the upsampler returned {shape_of(output)} for {given}; {expected}"
    is_last = output.ndim in (3, 4) and output.shape[-1] == features.shape[1] != output.shape[1]
    if output.ndim != 4:
        hint = "; it looks like tokens B×N×C: .transpose(1, 2).unflatten(2, (H, W))" if is_last else ""
        raise ContractError(f"{seen}: {output.ndim} dimensions instead of 4{hint}")
    if is_last and output.shape[0] == features.shape[0]:
        raise OrderError(f"{seen}: the channels are last; move them with .permute(0, 3, 1, 2)")
    if output.shape[0] != features.shape[0]:
        raise ContractError(f"{seen}: the batch must be kept")
    if output.shape[1] != features.shape[1]:
        hint = " (it may have returned the image: check the argument order)" if output.shape[1] == 3 else ""
        raise ContractError(f"{seen}: the channels must be kept{hint}")
    if output.shape[2] < features.shape[2] or output.shape[3] < features.shape[3]:
        raise ContractError(f"{seen}, at least as large as the patch grid: an upsampler must not shrink features")
    if not output.is_floating_point():
        raise ContractError(f"the upsampler returned {output.dtype}; {expected}: convert with .to(features.dtype)")
    if output.device != features.device:
        raise ContractError(f"the upsampler returned a tensor on {output.device}; {expected}: keep to features.device")
    if output.layout != torch.strided:
        raise ContractError(f"the upsampler returned a sparse tensor; {expected}: convert with .to_dense()")
    # The extremes are NaN if any value is; they need no second tensor of the output's size.
    if not all(bool(extreme.isfinite()) for extreme in torch.aminmax(output.detach())):
        bad = int((~output.isfinite()).sum())
        raise ContractError(
            f"the upsampler returned {bad} values of {output.numel()} that are NaN or infinite for {case}; "
            "look for divisions by zero and overflow"
        )


def check_gradient(upsampler: LoadedUpsampler, features: Tensor, image: Tensor) -> None:
    """Check that a gradient flows from an upsampler's output to the features.

    Raises:
        ContractError: if there is none, it is zero everywhere, not finite, or cannot be computed.
    """
    if upsampler.capabilities.needs_gradients:
        raise _no_gradient(
            "optimises per image (needs_gradients = True), so no gradient passes through it",
            "make it a single pass without an optimiser of its own",
        )
    _check_passes_gradient(upsampler, features, image)
    if upsampler.capabilities.upsample is not None:

        def by_steps(features: Tensor, image: Tensor) -> Tensor:
            with torch.no_grad():  # as in training
                guidance = upsampler.encode_guidance(image)
            return upsampler.upsample(features, guidance)

        _check_passes_gradient(by_steps, features, image)


def _check_passes_gradient(upsampler: Upsampler, features: Tensor, image: Tensor) -> None:
    needed = features.clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        output = call_caught(upsampler, needed, image)
        gradient: Tensor | None = None
        if output.requires_grad:
            # Random weights: the plain sum is constant where outputs are normalised, and its gradient zero.
            weights = torch.randn(output.shape, generator=generator).to(output)
            try:
                (gradient,) = torch.autograd.grad((output * weights).sum(), needed, allow_unused=True)
            except RuntimeError as error:
                raise _no_gradient(
                    f"cannot pass its gradient back ({error})", "look for in-place writes (+=, [...] =, relu_) in it"
                ) from error
    if not output.requires_grad:
        raise _no_gradient(
            "passes no gradient: its output is cut off from the features",
            "look for .detach(), .data, numpy or torch.no_grad() in it",
        )
    if gradient is None:
        raise _no_gradient(
            "passes no gradient from its output to the features",
            "look for .detach(), .data, numpy or torch.no_grad() where it reads the features",
        )
    if not bool(gradient.any()):
        raise _no_gradient(
            "passes no gradient to the features but zeros",
            "look for rounding, comparisons, argmax or conversions to integers in it, and for .detach()",
        )
    if not bool(gradient.isfinite().all()):
        raise _no_gradient(
            "passes a gradient that is NaN or infinite to the features",
            "look for divisions by zero, square roots and logarithms of zero, and norms without an epsilon in it",
        )


def _no_gradient(seen: str, advice: str) -> ContractError:
    return ContractError(
        f"the upsampler {seen}, but with this injection (early, pre_upsampler) the click encoder is trained through "
        f"it, or the backbone is (train_backbone): {advice}, or use injection 'late' and a frozen backbone"
    )
