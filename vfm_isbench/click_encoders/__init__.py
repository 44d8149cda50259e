"""Click encoders: from the click map (previous mask and disks) to patch tokens with the backbone's channels."""

from vfm_isbench.click_encoders.catalogue import (
    CLICK_ENCODER_PLUGINS,
    check_click_encoder,
    list_click_encoders,
    make_click_encoder,
)
from vfm_isbench.click_encoders.distances import DistanceEncoder
from vfm_isbench.click_encoders.patch_embedding import PatchEmbedding
from vfm_isbench.click_encoders.simple_vit import SimpleViT

__all__ = [
    "CLICK_ENCODER_PLUGINS",
    "DistanceEncoder",
    "PatchEmbedding",
    "SimpleViT",
    "check_click_encoder",
    "list_click_encoders",
    "make_click_encoder",
]
