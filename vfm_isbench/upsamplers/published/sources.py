"""The published weights of upsamplers: where they are, their licence and what to cite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where published weights come from.

    Attributes:
        title: Method and backbone.
        file_name: Official name of the file.
        repository: Repository on the Hugging Face hub; None if the file has a URL.
        url: URL of the file; None if it is on the hub.
        licence: SPDX identifier.
        citation: Link to the paper.
        sha256: Expected hexadecimal hash of the file. None if this project could not fetch the file; then the hash of
            the first downloaded file that loads is remembered and checked from then on.
    """

    title: str
    file_name: str
    repository: str | None
    url: str | None
    licence: str
    citation: str
    sha256: str | None = None

    @property
    def where(self) -> str:
        """The URL, or the repository and file on the hub."""
        return self.url or f"{self.repository}/{self.file_name}"


def _loftup(name: str, backbone: str) -> Source:
    return Source(
        title=f"LoftUp for {backbone}",
        file_name="pytorch_model.bin",
        repository=f"haiwen/loftup-{name}",
        url=None,
        licence="MIT",
        citation="https://arxiv.org/abs/2504.14032",
    )


def _featup(name: str, backbone: str, folder: str = "") -> Source:
    file_name = f"{name}_jbu_stack_cocostuff.ckpt"
    # From hubconf.py of mhamilton723/FeatUp.
    base = "https://marhamilresearch4.blob.core.windows.net/feature-upsampling-public/pretrained/"
    return Source(
        title=f"FeatUp-JBU for {backbone}",
        file_name=file_name,
        repository=None,
        url=f"{base}{folder}{file_name}",
        licence="MIT",
        citation="https://arxiv.org/abs/2403.10516",
    )


SOURCES: dict[str, Source] = {
    "loftup:dinov2s": _loftup("dinov2s", "DINOv2 ViT-S/14"),
    "loftup:dinov2s_reg": _loftup("dinov2s_reg", "DINOv2 ViT-S/14 with registers"),
    "loftup:dinov2b": _loftup("dinov2b", "DINOv2 ViT-B/14"),
    "loftup:dinov2b_reg": _loftup("dinov2b_reg", "DINOv2 ViT-B/14 with registers"),
    "loftup:clip": _loftup("clip", "CLIP ViT-B/16"),
    "loftup:siglip": _loftup("siglip", "SigLIP ViT-B/16"),
    "loftup:siglip2": _loftup("siglip2", "SigLIP 2 ViT-B/16"),
    "featup:dinov2": _featup("dinov2", "DINOv2 ViT-S/14"),
    "featup:dino16": _featup("dino16", "DINO ViT-S/16"),
    "featup:clip": _featup("clip", "CLIP ViT-B/16"),
    # Published only without the channel norm.
    "featup:maskclip": _featup("maskclip", "MaskCLIP ViT-B/16", "no_norm/"),
    "featup:vit": _featup("vit", "supervised ViT-S/16"),
    "featup:resnet50": _featup("resnet50", "ResNet-50"),
}
"""Published weights by the name a user gives."""
