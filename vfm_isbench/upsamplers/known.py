"""Known upsamplers: how to run each one here, what it fits, what it needs, and what of that was tried."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vfm_isbench.errors import ContractError

BUILT_IN = "built in"
RANDOM_WEIGHTS = "weight layout and call tested with random weights; the published file was not downloaded"
SIGNATURE = "call tested with a module of the same signature; code and weights were not downloaded"

Fit = tuple[str, int]
"""A backbone, as ``--backbone`` takes it or in words, and its feature channels."""

_DINOV2S, _DINOV2S_REG = ("dinov2_vits14", 384), ("dinov2_vits14_reg", 384)
_DINOV2B, _DINOV2B_REG = ("dinov2_vitb14", 768), ("dinov2_vitb14_reg", 768)
_DINOV2L = ("dinov2_vitl14", 1024)
_DINO = ("timm:vit_small_patch16_224.dino", 384)
_CLIP, _MASKCLIP = ("clip_vitb16", 512), ("maskclip_vitb16", 512)
_VIT = ("timm:vit_small_patch16_224.augreg_in21k_ft_in1k", 384)
_SIGLIP, _SIGLIP2 = ("timm:vit_base_patch16_siglip_224.webli", 768), ("timm:vit_base_patch16_siglip_224.v2_webli", 768)
_RESNET = ("timm:resnet50.tv_in1k@32", 2048)
_DINOV3S_PLUS, _DINOV3B = (
    ("timm:vit_small_plus_patch16_dinov3.lvd1689m", 384),
    ("timm:vit_base_patch16_dinov3.lvd1689m", 768),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One upsampler that can be run here.

    Attributes:
        title: Its name in papers, and which variant it is.
        spec: What to write after ``vfm-isbench run``; words in capitals are for the user to fill in.
        fits: Backbones that it was trained for; empty if it works on any.
        licence: Licence of code and weights.
        packages: Packages that its code imports and this library does not install; pip and Python call them alike.
        verified: What was tried here.
        repository: Name of its repository, by which it is recognised; "" if it comes with this library.
        remark: What a user should know; "" for nothing.
    """

    title: str
    spec: str
    fits: tuple[Fit, ...] = ()
    licence: str
    packages: tuple[str, ...] = ()
    verified: str = SIGNATURE
    repository: str = ""
    remark: str = ""

    def missing(self) -> list[str]:
        """Its packages that cannot be imported here."""
        return [name for name in self.packages if not is_installed(name)]

    def fitted(self) -> str:
        """The backbones that it fits, with their channels."""
        return ", ".join(f"{name} ({channels})" for name, channels in self.fits) or "any"


def _built_in(name: str, title: str) -> Known:
    return Known(title=title, spec=name, licence="this library's", verified=f"{BUILT_IN}; tested against other code")


def _loftup(name: str, fit: Fit) -> Known:
    return Known(title="LoftUp", spec=f"loftup:{name}", fits=(fit,), licence="MIT", verified=RANDOM_WEIGHTS)


def _featup(name: str, fit: Fit) -> Known:
    return Known(title="FeatUp-JBU", spec=f"featup:{name}", fits=(fit,), licence="MIT", verified=RANDOM_WEIGHTS)


KNOWN: tuple[Known, ...] = (
    Known(
        title="no upsampling",
        spec="identity",
        licence="this library's",
        verified=f"{BUILT_IN}; the head runs on patches",
    ),
    _built_in("nearest", "nearest neighbour"),
    _built_in("bilinear", "bilinear"),
    _built_in("bicubic", "bicubic"),
    _built_in("lanczos", "Lanczos"),
    _built_in("jbu", "joint bilateral upsampling"),
    _built_in("guided_filter", "guided filter"),
    _loftup("dinov2s", _DINOV2S),
    _loftup("dinov2s_reg", _DINOV2S_REG),
    _loftup("dinov2b", _DINOV2B),
    _loftup("dinov2b_reg", _DINOV2B_REG),
    _loftup("clip", _CLIP),
    _loftup("siglip", _SIGLIP),
    _loftup("siglip2", _SIGLIP2),
    _featup("dinov2", _DINOV2S),
    _featup("dino16", _DINO),
    _featup("clip", _CLIP),
    _featup("maskclip", _MASKCLIP),
    _featup("vit", _VIT),
    _featup("resnet50", _RESNET),
    Known(
        title="FeatUp implicit",
        spec="path/to/file.py:attribute",
        licence="MIT",
        verified="capabilities needs_gradients and needs_backbone tested with a module of that kind",
        remark="trained per image with the backbone: declare both in a class of your own",
    ),
    Known(
        title="LiFT",
        spec="lift:FILE",
        fits=(_DINO, _DINOV2S),
        licence="MIT",
        verified=RANDOM_WEIGHTS,
        remark="files on Google Drive, one per backbone",
    ),
    Known(
        title="AnyUp",
        spec="hub:wimmerth/anyup@COMMIT:anyup?call.q_chunk_size=100",
        licence="CC-BY-4.0",
        repository="anyup",
        remark="NATTEN is optional and changes results slightly",
    ),
    Known(
        title="JAFAR",
        spec="code:path/to/JAFAR:src.upsampler.jafar:JAFAR?v_dim=384&weights_key=jafar",
        fits=(_DINOV2S, _DINOV2S_REG, _DINOV2B, _DINOV2B_REG, _DINOV2L),
        licence="Apache-2.0",
        packages=("einops",),
        repository="JAFAR",
        remark="weights from its GitHub release, as --upsampler-weights FILE; v_dim is the number of channels",
    ),
    Known(
        title="NAF",
        spec="hub:valeoai/NAF@COMMIT:naf",
        licence="Apache-2.0",
        packages=("einops", "natten"),
        repository="NAF",
    ),
    Known(
        title="UPLiFT",
        spec="hub:mwalmer-umd/UPLiFT@COMMIT:uplift_dinov2_s14?include_extractor=false&then=enable_iterative(4)",
        fits=(_DINOV2S, _DINOV3S_PLUS),
        licence="MIT",
        packages=("omegaconf",),
        repository="UPLiFT",
        remark="uplift_dinov3_splus16 is for DINOv3 S+",
    ),
    Known(
        title="ViT-Up",
        spec="hub:krispinwandel/vit-up@COMMIT:vit_up_dinov3_base?use_bfloat16=false",
        fits=(_DINOV3S_PLUS, _DINOV3B),
        licence="none found",
        packages=("transformers", "peft"),
        repository="vit-up",
        remark="ignores the features it is given: it has a DINOv3 of its own, with the channels of the backbone named",
    ),
    Known(
        title="Upsample Anything",
        spec="path/to/file.py:attribute",
        licence="no licence file",
        verified="capability needs_gradients tested with a module of that kind",
        remark="optimises per image, on CUDA only, 20 GiB and more: wrap it, and declare needs_gradients",
    ),
    Known(
        title="FeatSharp",
        spec="path/to/file.py:attribute",
        licence="NVIDIA, non-commercial",
        remark="(x, get_lr_features) is recognised; its weights are not published",
    ),
)
"""In the order in which they are listed."""


def fitting_backbones(spec: str) -> tuple[Fit, ...]:
    """Backbones, with their channels, that an upsampler was trained for; empty if any will do, or if nothing is known.

    Example:
        >>> fitting_backbones("loftup:dinov2b?max_memory=2")
        (('dinov2_vitb14', 768),)
    """
    known = known_as(spec)
    return () if known is None else known.fits


def known_as(spec: str) -> Known | None:
    """The entry of the table that a spec names; None if it is in none."""
    name = spec.partition("?")[0]
    kind, colon, rest = name.partition(":")
    if colon and kind in ("hub", "code"):
        place = rest.rpartition(":")[0]
        if kind == "code":
            place = place.rpartition(":")[0]
        return known_repository(place.partition("@")[0].rstrip("/").rpartition("/")[2])
    return next((known for known in KNOWN if not known.repository and known.spec == name), None)


def known_repository(name: str) -> Known | None:
    """The entry whose repository has this name, as it is on GitHub or in a folder that was unpacked from there."""
    lowered = name.lower()
    for known in KNOWN:
        own = known.repository.lower()
        if own and (lowered == own or lowered.startswith(f"{own}-")):
            return known
    return None


def require_packages(spec: str, repository: str, folder: Path | None = None) -> None:
    """Stop before a known upsampler is fetched or run, if a package that it needs is missing.

    Args:
        spec: What the user wrote, for the message.
        repository: OWNER/REPO on GitHub, or the name of a folder.
        folder: The folder. Its name may mean something else, so only packages that its code imports count.

    Raises:
        ContractError: naming all of them, and how to install them.
    """
    known = known_repository(repository.rpartition("/")[2])
    if known is not None and folder is None and f"hub:{repository}@".lower() not in known.spec.lower():
        known = None
    missing = [] if known is None else [name for name in known.missing() if folder is None or _imports(folder, name)]
    if known is not None and missing:
        raise ContractError(
            f"upsampler {spec!r}: {known.title} needs {_listed(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            f"not installed here; run pip install {' '.join(missing)}"
        )


def _imports(folder: Path, package: str) -> bool:
    statement = re.compile(rf"^\s*(import|from)\s+{re.escape(package)}\b", re.MULTILINE)
    return any(statement.search(file.read_text("utf-8", "replace")) for file in folder.rglob("*.py") if file.is_file())


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
