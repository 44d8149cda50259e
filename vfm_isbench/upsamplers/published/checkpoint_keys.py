"""Finds an upsampler's tensors in the checkpoints of others, whatever they lie below, and loads them strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from vfm_isbench.errors import WeightsError

PROBE_PARTS = ("backbone.", "embed_coords.", "head.", "neck.")
"""What a checkpoint of iSegProbe (core/model/iseg_probe_model.py) holds beside its ``upsampler.``."""

_LISTED_KEYS = 8
"""How many keys an error quotes before it only counts the rest."""


def without_module_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the ``module.`` that DataParallel puts in front of every key; where one lacks it, it belongs there."""
    shared = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module."): value for key, value in state.items()} if shared else dict(state)


def tensors_below(state: Mapping[str, Tensor], anchor: str, source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a state dict into the tensors that stand beside a key known to be an upsampler's own, and the others.

    Prefixes met in the wild: none, ``module.`` (DataParallel), ``upsampler.`` (Lightning; the LoftUp hub files), and
    ``upsampler.lift.``, ``upsampler.upsampler.`` (iSegProbe, which wraps upsamplers once more).

    Args:
        state: Tensors by key.
        anchor: A key every such upsampler has, such as ``up1.range_temp``, without prefix.
        source: The file, or what else the tensors came from, for messages.

    Returns:
        The tensors below the prefix of the anchor, by key without that prefix, and the rest by unchanged key.

    Raises:
        WeightsError: if no key, or more than one, is the anchor behind some prefix.

    Example:
        >>> state = {"upsampler.up1.range_temp": 1, "upsampler.fixup_proj.1.bias": 2, "head.bias": 3}
        >>> tensors_below(state, "up1.range_temp", "some.ckpt")
        ({'up1.range_temp': 1, 'fixup_proj.1.bias': 2}, {'head.bias': 3})
    """
    found = [key for key in state if f".{key}".endswith(f".{anchor}")]
    if len(found) != 1:
        seen = f"there more than once: {some_keys(found)}" if found else f"missing; found: {some_keys(state) or 'none'}"
        raise WeightsError(
            f"{source}: expected one key {anchor}, alone or behind a prefix such as module. or upsampler., but it is "
            f"{seen}. Give the weights file of the upsampler that was asked for."
        )
    prefix = found[0].removesuffix(anchor)
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return below, {key: value for key, value in state.items() if not key.startswith(prefix)}


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, layouts: str, unexpected: Iterable[str] = ()
) -> None:
    """Load a state dict into a module, in place, if it has the module's keys and shapes and nothing else.

    Args:
        module: The upsampler.
        state: Tensors by the module's keys.
        source: The file, or what else the tensors came from, for messages.
        layouts: The layouts of checkpoints that this upsampler is loaded from, for messages.
        unexpected: Further keys of the file that are neither the module's, nor of a part known to stand beside it.

    Raises:
        WeightsError: listing missing and unexpected keys and wrong shapes, if there are any; nothing is loaded then.
    """
    own = module.state_dict()
    wrong = [
        f"{key} is {_shape(state[key])} instead of {_shape(own[key])}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [*(key for key in state if key not in own), *unexpected],
        "of another shape": wrong,
    }
    listed = [f"{kind}: {some_keys(keys)}" for kind, keys in problems.items() if keys]
    if listed:
        raise WeightsError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(listed)}. Known layouts: {layouts}. Give a "
            "file in one of them."
        )
    module.load_state_dict(dict(state))


def some_keys(keys: Iterable[str]) -> str:
    """Quote the first keys and count the others, for messages: ``a, b and 3 more``."""
    every = list(keys)
    more = len(every) - _LISTED_KEYS
    return ", ".join(every[:_LISTED_KEYS]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
