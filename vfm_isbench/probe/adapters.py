"""What a probe learns about granularity: embeddings of the value, and low-rank adapters in the backbone's attention.

Each way contains the one before it (protocol section 1.8). With all of them, a new probe computes exactly what one
without granularity does, because the last layer of every embedding, every second factor of a low-rank product and the
gate start at zero.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.errors import MissingPackageError, ProtocolError
from vfm_isbench.protocol import Protocol

_WAVES = 8
_ATTENTION = ("attn", "attention")
_PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj", "proj", "out_proj")
"""Linear layers of an attention that timm's transformers may have."""


class GranularityEmbedding(nn.Module):
    """From a granularity in (0, 1] to a vector that is added to tokens; zero until it is trained.

    The value enters as cosines of π·k·g, k = 0 … 7, which tell small shares apart without a scale to choose.

    Args:
        channels: Channels C of the tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(_WAVES, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, granularities: Tensor) -> Tensor:
        """Map B values to B×C×1×1."""
        waves = torch.arange(_WAVES, device=granularities.device, dtype=granularities.dtype)
        features = torch.cos(math.pi * waves * granularities[:, None])
        return cast(Tensor, self.out(nn.functional.gelu(self.hidden(features))))[:, :, None, None]


class Gate(nn.Module):
    """One factor per channel, zero until it is trained.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Scale B×C×h×w."""
        return maps * self.weight[:, None, None]


class Adapters(nn.Module):
    """How a probe uses granularity.

    Args:
        how: "input", "lora" or "gated_lora", see :class:`vfm_isbench.Protocol`.
        backbone: The frozen backbone; it stays as it is.
        rank: Rank of the low-rank adapters.
        alpha: Their output is multiplied by ``alpha / rank``.

    Raises:
        MissingPackageError: if peft is needed but not installed.
        ProtocolError: see :func:`check_adapters`.

    Attributes:
        how: As given.
        backbone: With "lora" and "gated_lora": a copy with adapters, which shares the weights of the original.
    """

    def __init__(
        self, how: Literal["input", "lora", "gated_lora"], backbone: Backbone, rank: int = 8, alpha: float = 8.0
    ) -> None:
        super().__init__()
        self.how = how
        self.to_tokens = GranularityEmbedding(backbone.channels)
        self.backbone: Backbone | None = None
        if how == "input":
            return
        self.to_backbone = GranularityEmbedding(backbone.channels)
        self.gate = Gate(backbone.channels) if how == "gated_lora" else None
        shared: dict[int, Any] = {id(weight): weight for weight in backbone.parameters()}
        self.backbone, self._lora = _with_lora(copy.deepcopy(backbone, shared), rank, alpha)

    def train(self, mode: bool = True) -> Adapters:
        """Switch the embeddings; the backbone's copy always stays in eval mode."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def trained(self) -> nn.ModuleDict:
        """The parts with gradients; their state dict holds nothing of the frozen backbone."""
        parts: dict[str, nn.Module] = {"to_tokens": self.to_tokens}
        if self.backbone is not None:
            parts |= {"to_backbone": self.to_backbone, "lora": self._lora}
            parts |= {"gate": self.gate} if self.gate is not None else {}
        return nn.ModuleDict(parts)

    @property
    def changes_features(self) -> bool:
        """Whether the features that the upsampler gets depend on the granularity."""
        return self.how == "lora"

    def features(self, normalised: Tensor, granularities: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """Features B×C×h×w of the adapted backbone; :attr:`how` must not be "input".

        Args:
            normalised: B×3×H×W, normalised for the backbone.
            granularities: B values.
            click_tokens: B×C×h×w for early injection.
        """
        backbone = cast(Backbone, self.backbone)
        height, width = (side // backbone.patch_size for side in normalised.shape[-2:])
        added = self.to_backbone(granularities).expand(-1, -1, height, width)
        return cast(Tensor, backbone(normalised, added if click_tokens is None else added + click_tokens))

    def tokens(self, click_tokens: Tensor, granularities: Tensor, features: Callable[[], Tensor]) -> Tensor:
        """Click tokens B×C×h×w that know the granularity.

        Args:
            click_tokens: B×C×h×w from the click encoder.
            granularities: B values.
            features: Gives what :meth:`features` returns; called by "gated_lora" alone.
        """
        tokens = click_tokens + self.to_tokens(granularities)
        if self.how != "gated_lora":
            return cast(Tensor, tokens)
        return cast(Tensor, tokens + cast(Gate, self.gate)(features()))


def check_adapters(protocol: Protocol, backbone: Backbone) -> None:
    """Refuse low-rank adapters where a backbone has no place for them.

    Raises:
        ProtocolError: if it has no attention, or takes no tokens.
    """
    if "lora" not in protocol.granularity:
        return
    found = attention_layers(backbone)
    if not found or not backbone.takes_click_tokens:
        lacks = "takes no tokens behind its patch embedding" if found else "has no attention"
        raise ProtocolError(
            f"granularity {protocol.granularity!r} trains adapters in the attention of the backbone, whose tokens get "
            f"the granularity, but {protocol.backbone!r} {lacks}; use granularity 'input', or a vision transformer"
        )


def make_adapters(protocol: Protocol, backbone: Backbone) -> Adapters | None:
    """The adapters of a protocol, initialised from the default generator; None if it has no granularity.

    Raises:
        MissingPackageError, ProtocolError: as :class:`Adapters`, :func:`check_adapters`.
    """
    if protocol.granularity == "none":
        return None
    check_adapters(protocol, backbone)
    return Adapters(protocol.granularity, backbone, protocol.lora_rank, protocol.lora_alpha)


def attention_layers(backbone: nn.Module) -> list[str]:
    """Names of the linear layers in the attention of a transformer; empty if it has none."""
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in _PROJECTIONS
        and name.rpartition(".")[0].rpartition(".")[2] in _ATTENTION
    ]


def blocks_of(backbone: nn.Module) -> list[str]:
    """Names of the blocks of a transformer that have an attention, in order; empty if it has none."""
    names = {name: None for name, _ in backbone.named_modules() if name.rpartition(".")[2] in _ATTENTION}
    return [name.rpartition(".")[0] for name in names]


def _with_lora(backbone: Backbone, rank: int, alpha: float) -> tuple[Backbone, nn.ModuleDict]:
    """Put low-rank adapters into the attention of a backbone, in place; also return them by layer."""
    inject, config_type = _peft()
    layers = attention_layers(backbone)
    # Without dropout, because predictions between the clicks of a training step are made in eval mode.
    config = config_type(r=rank, lora_alpha=alpha, target_modules=layers, lora_dropout=0.0, bias="none")
    adapted = cast(Backbone, inject(config, backbone))
    found: dict[str, nn.Module] = {}
    for name in layers:
        layer = cast(Any, adapted.get_submodule(name))
        factors = {"down": layer.lora_A["default"], "up": layer.lora_B["default"]}
        found[name.replace(".", "-")] = nn.ModuleDict(factors)
    return adapted.eval(), nn.ModuleDict(found)


def _peft() -> tuple[Any, Any]:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # here, because importing peft takes seconds
    except ImportError as error:
        raise MissingPackageError(
            f"granularity 'lora' and 'gated_lora' need peft, but the module {error.name!r} is not installed: pip "
            "install 'vfm_isbench[lora]'. Granularity 'input' needs nothing"
        ) from error
    return inject_adapter_in_model, LoraConfig
