"""Frozen vision foundation models: what they declare, how they are built, where their weights come from."""

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.identity import identify_backbone, input_normalisation
from vfm_isbench.backbones.load import BACKBONE_PLUGINS, CHANNELS, list_backbones, load_backbone, load_what_is_here
from vfm_isbench.backbones.stand_in import StandIn

__all__ = [
    "BACKBONE_PLUGINS",
    "CHANNELS",
    "Backbone",
    "StandIn",
    "identify_backbone",
    "input_normalisation",
    "list_backbones",
    "load_backbone",
    "load_what_is_here",
]
