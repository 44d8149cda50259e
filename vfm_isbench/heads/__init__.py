"""Segmentation heads: from features to one logit per pixel."""

from vfm_isbench.heads.conv import ConvHead, LinearHead

__all__ = ["ConvHead", "LinearHead"]
