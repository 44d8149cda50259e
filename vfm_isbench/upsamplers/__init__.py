"""Upsamplers: the contract they keep, the built-in ones, and how those of others are found, adapted and told apart."""

from vfm_isbench.upsamplers.adapters import STYLES, Adapted, Style, adapt, detect_style, to_contract
from vfm_isbench.upsamplers.base import UPSAMPLERS, TwoStepUpsampler, Upsampler, keeps_patch_resolution
from vfm_isbench.upsamplers.contract import ContractReport, check_upsampler
from vfm_isbench.upsamplers.freezing import count_parameters, find_module, freeze
from vfm_isbench.upsamplers.identity import UpsamplerIdentity, identity_of
from vfm_isbench.upsamplers.interpolation import Bicubic, Bilinear, Identity, Nearest
from vfm_isbench.upsamplers.jbu import JointBilateralGuidance, JointBilateralUpsampler
from vfm_isbench.upsamplers.resolve import list_upsamplers, load_upsampler, prepare_upsampler
from vfm_isbench.upsamplers.specs import LOADERS, Loader, LoadOptions

__all__ = [
    "LOADERS",
    "STYLES",
    "UPSAMPLERS",
    "Adapted",
    "Bicubic",
    "Bilinear",
    "ContractReport",
    "Identity",
    "JointBilateralGuidance",
    "JointBilateralUpsampler",
    "LoadOptions",
    "Loader",
    "Nearest",
    "Style",
    "TwoStepUpsampler",
    "Upsampler",
    "UpsamplerIdentity",
    "adapt",
    "check_upsampler",
    "count_parameters",
    "detect_style",
    "find_module",
    "freeze",
    "identity_of",
    "keeps_patch_resolution",
    "list_upsamplers",
    "load_upsampler",
    "prepare_upsampler",
    "to_contract",
]
