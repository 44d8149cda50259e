"""Frozen vision foundation models: what they declare, how they are built, where their weights come from."""

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.load import BACKBONE_PLUGINS, list_backbones, load_backbone

__all__ = ["BACKBONE_PLUGINS", "Backbone", "list_backbones", "load_backbone"]
