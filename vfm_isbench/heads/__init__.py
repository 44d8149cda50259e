"""Segmentation heads: from features to one logit per pixel."""

from vfm_isbench.heads.conv import ConvBlock, ConvHead, LinearHead
from vfm_isbench.heads.pyramid import PyramidHead, UpsampledPyramidHead

__all__ = ["ConvBlock", "ConvHead", "LinearHead", "PyramidHead", "UpsampledPyramidHead"]
