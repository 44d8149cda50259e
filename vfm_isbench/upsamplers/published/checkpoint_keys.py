"""Find an upsampler's tensors in foreign checkpoints, behind any prefix, and load them strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from vfm_isbench.errors import WeightsError

PROBE_PARTS = ("backbone.", "embed_coords.", "head.", "neck.")
"""What a checkpoint of iSegProbe (core/model/iseg_probe_model.py) contains besides its ``upsampler.``."""

_LISTED_KEYS = 8
"""Errors quote this many keys and only count the rest."""


def without_module_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove DataParallel's ``module.`` from the keys, unless a key lacks it: then it belongs to the names."""
    shared = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module."): value for key, value in state.items()} if shared else dict(state)


def tensors_below(state: Mapping[str, Tensor], anchor: str, source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a state dict into an upsampler's tensors, found by a key that it is known to have, and the others.

    Prefixes seen in practice: none, ``module.`` (DataParallel), ``upsampler.`` (Lightning; the LoftUp hub files), and
    ``upsampler.lift.``, ``upsampler.upsampler.`` (iSegProbe, which wraps upsamplers once more).

    Args:
        state: Tensors by key.
        anchor: A key that every such upsampler has, such as ``up1.range_temp``, without prefix.
        source: Where the tensors come from, for messages.

    Returns:
        The tensors with the anchor's prefix, by key without it, and the other tensors by unchanged key.

    Raises:
        WeightsError: unless exactly one key is the anchor, possibly behind a prefix.

    Example:
        >>> state = {"upsampler.up1.range_temp": 1, "upsampler.fixup_proj.1.bias": 2, "head.bias": 3}
        >>> tensors_below(state, "up1.range_temp", "some.ckpt")
        ({'up1.range_temp': 1, 'fixup_proj.1.bias': 2}, {'head.bias': 3})
    """
    found = [key for key in state if f".{key}".endswith(f".{anchor}")]
    if len(found) != 1:
        seen = f"several: {some_keys(found)}" if found else f"none; its keys are: {some_keys(state) or 'none'}"
        raise WeightsError(
            f"{source}: expected one key {anchor}, alone or behind a prefix such as module. or upsampler., but found "
            f"{seen}. Give a weights file of this upsampler."
        )
    prefix = found[0].removesuffix(anchor)
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return below, {key: value for key, value in state.items() if not key.startswith(prefix)}


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, layouts: str, unexpected: Iterable[str] = ()
) -> None:
    """Load a state dict into a module, in place, if it has exactly the module's keys and shapes.

    Args:
        module: The upsampler.
        state: Tensors by the module's keys.
        source: Where the tensors come from, for messages.
        layouts: The checkpoint layouts that this upsampler can be loaded from, for messages.
        unexpected: Further keys of the file that belong neither to the module nor to another known part.

    Raises:
        WeightsError: if keys are missing or unexpected or shapes are wrong; it lists them, and nothing is loaded.
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
        "wrong shape": wrong,
    }
    listed = [f"{kind}: {some_keys(keys)}" for kind, keys in problems.items() if keys]
    if listed:
        raise WeightsError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(listed)}. Known layouts: {layouts}. Give a "
            "file in one of these."
        )
    module.load_state_dict(dict(state))


def some_keys(keys: Iterable[str]) -> str:
    """List the first keys and count the others, for messages: ``a, b and 3 more``."""
    every = list(keys)
    more = len(every) - _LISTED_KEYS
    return ", ".join(every[:_LISTED_KEYS]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
