"""Click encoders: from the click map (previous mask and disks) to patch tokens of the backbone's width."""

from vfm_isbench.click_encoders.patch_embedding import PatchEmbedding
from vfm_isbench.click_encoders.simple_vit import SimpleViT

__all__ = ["PatchEmbedding", "SimpleViT"]
