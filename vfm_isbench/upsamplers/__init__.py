"""Upsamplers: the contract they keep, the built-in ones, and how those of others are found, adapted and told apart."""

from vfm_isbench.upsamplers.backbone_access import BackboneAccess
from vfm_isbench.upsamplers.base import (
    UPSAMPLERS,
    BackboneUser,
    NormalisingUpsampler,
    StripwiseUpsampler,
    TwoStepUpsampler,
    Upsampler,
)
from vfm_isbench.upsamplers.builtin.interpolation import Bicubic, Bilinear, Identity, Nearest
from vfm_isbench.upsamplers.builtin.jbu import JointBilateralGuidance, JointBilateralUpsampler

# isort: split
# Behind those, which come first in lists.
from vfm_isbench.upsamplers.builtin.guided_filter import GuidedFilter
from vfm_isbench.upsamplers.builtin.lanczos import Lanczos
from vfm_isbench.upsamplers.contract import ContractReport, check_upsampler
from vfm_isbench.upsamplers.freezing import count_parameters, find_module, freeze
from vfm_isbench.upsamplers.identity import UpsamplerIdentity, identity_of
from vfm_isbench.upsamplers.known import KNOWN, Known, fitting_backbones
from vfm_isbench.upsamplers.loaded import Capabilities, LoadedUpsampler
from vfm_isbench.upsamplers.loading.adapters import STYLES, Adapted, Style, adapt, call_style, detect_style, to_contract
from vfm_isbench.upsamplers.loading.code_folder import load_from_code
from vfm_isbench.upsamplers.loading.hub import load_from_hub
from vfm_isbench.upsamplers.loading.hub_mixin import load_from_hf
from vfm_isbench.upsamplers.loading.resolve import (
    UPSAMPLER_PLUGINS,
    is_own,
    is_unchanged_here,
    list_upsamplers,
    load_upsampler,
    recorded_spec,
)
from vfm_isbench.upsamplers.loading.specs import LOADERS, Loader, LoadOptions
from vfm_isbench.upsamplers.published.featup import FeatUpJBU, featup_from_state_dict
from vfm_isbench.upsamplers.published.lift import LiFT, lift_from_state_dict
from vfm_isbench.upsamplers.published.loftup import LoftUp, loftup_from_state_dict
from vfm_isbench.upsamplers.published.pretrained import (
    describe_loaders,
    load_pretrained_featup,
    load_pretrained_lift,
    load_pretrained_loftup,
)

__all__ = [
    "Adapted",
    "BackboneAccess",
    "BackboneUser",
    "Bicubic",
    "Bilinear",
    "Capabilities",
    "ContractReport",
    "FeatUpJBU",
    "GuidedFilter",
    "Identity",
    "JointBilateralGuidance",
    "JointBilateralUpsampler",
    "KNOWN",
    "Known",
    "LOADERS",
    "Lanczos",
    "LiFT",
    "LoadOptions",
    "LoadedUpsampler",
    "Loader",
    "LoftUp",
    "Nearest",
    "NormalisingUpsampler",
    "STYLES",
    "StripwiseUpsampler",
    "Style",
    "TwoStepUpsampler",
    "UPSAMPLERS",
    "UPSAMPLER_PLUGINS",
    "Upsampler",
    "UpsamplerIdentity",
    "adapt",
    "call_style",
    "check_upsampler",
    "count_parameters",
    "describe_loaders",
    "detect_style",
    "featup_from_state_dict",
    "find_module",
    "fitting_backbones",
    "freeze",
    "identity_of",
    "is_own",
    "is_unchanged_here",
    "lift_from_state_dict",
    "list_upsamplers",
    "load_from_code",
    "load_from_hf",
    "load_from_hub",
    "load_pretrained_featup",
    "load_pretrained_lift",
    "load_pretrained_loftup",
    "load_upsampler",
    "loftup_from_state_dict",
    "recorded_spec",
    "to_contract",
]
