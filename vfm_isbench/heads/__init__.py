"""Segmentation heads: from features to one logit per pixel."""

from vfm_isbench.heads.conv import ConvBlock, ConvHead, LinearHead

__all__ = ["ConvBlock", "ConvHead", "LinearHead"]
