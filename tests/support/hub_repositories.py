"""Small repositories like those that other people publish; the tests write them to disk."""

from __future__ import annotations

import zipfile
from pathlib import Path

HUBCONF = """
dependencies = ["torch"]

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

Path(__file__).with_name("was_run").touch()


class Upsampler(nn.Module):
    def __init__(self, width=4, seed=0):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.normal_(self.mix.weight, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.mix.bias)

    def resized(self, features, image, size):
        assert image.shape[1] == 3, "arguments in the wrong order"
        return self.mix(functional.interpolate(features, size, mode="bilinear"))


class LikeAnyUp(Upsampler):
    def forward(self, image, features, output_size=None, vis_attn=False, q_chunk_size=None):
        return self.resized(features, image, output_size)


class LikeJafar(Upsampler):
    def forward(self, image, features, output_size, *args, **kwargs):
        return self.resized(features, image, output_size)


class LikeNaf(Upsampler):
    def forward(self, image, features, output_size, return_weights=False, *args, **kwargs):
        return self.resized(features, image, output_size)


class LikeUplift(Upsampler):
    def forward(self, img, x, outsize=None):
        return self.resized(x, img, outsize or [2 * side for side in x.shape[-2:]])


class LikeFeatUp(Upsampler):
    def forward(self, source, guidance):
        return self.resized(source, guidance, guidance.shape[-2:])


class LikeLift(Upsampler):
    def forward(self, image, features):
        return self.resized(features, image, [2 * side for side in features.shape[-2:]])


class Unnamed(Upsampler):
    def forward(self, a, b, c):
        return self.resized(b, a, c)


class FeaturesFirst(Upsampler):
    def forward(self, features, image, output_size):
        return self.resized(features, image, output_size)


class TwoSteps(Upsampler):
    def encode_guidance(self, image):
        return image.mean(1, keepdim=True)

    def upsample(self, features, guidance):
        return self.mix(functional.interpolate(features, guidance.shape[-2:]) + guidance)

    def forward(self, features, image):
        return self.upsample(features, self.encode_guidance(image))


class Strips(TwoSteps):
    def upsample_strips(self, features, guidance):
        cells = self.upsample(features, guidance).permute(0, 2, 3, 1)
        for top in range(0, cells.shape[1], 4):
            yield top, cells[:, top : top + 4]


class WholeModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Identity()
        self.upsampler = LikeFeatUp()

    def forward(self, image):
        return self.upsampler(self.model(image), image)


class CrossAttentionBlock(nn.Module):
    pass


def anyup(**arguments):
    model = LikeAnyUp(**arguments)
    model.cross_decode = CrossAttentionBlock()
    return model


def jafar(**arguments):
    return LikeJafar(**arguments), nn.Identity()


def naf(**arguments):
    return LikeNaf(**arguments)


def uplift(**arguments):
    return LikeUplift(**arguments)


def featup():
    return WholeModel()


def lift():
    return LikeLift()


def unnamed():
    return Unnamed()


def features_first():
    return FeaturesFirst()


def strips():
    return Strips()


def two_steps():
    return TwoSteps()


def text(a, b=1):
    return lambda features, image: (a, b)


def settings():
    return {"no": "upsampler"}


def breaks():
    raise OSError("no weights here")


def ends():
    raise SystemExit(3)


def falls_back():
    import warnings
    print("loading")
    warnings.warn("no weights found, going on with random ones")
    return LikeAnyUp()
"""

MIXIN = """
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn import functional

Path(__file__).with_name("was_run").touch()


class Mixing(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width=4, scale=1.0):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 1)
        self.scale = scale

    def forward(self, image, features, output_size):
        return self.scale * self.mix(functional.interpolate(features, output_size, mode="bilinear"))
"""


def write_repository(folder: Path, **files: str) -> Path:
    """Write files into a new folder; ``a__b`` names the file ``a/b.py``."""
    for name, text in (files or {"hubconf": HUBCONF}).items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def zip_repository(folder: Path, archive: Path, commit: str) -> None:
    """Pack a folder as GitHub does: inside a folder named after the commit, which is also the archive's comment."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in folder.rglob("*.py"):
            zipped.write(path, f"anyup-{commit}/{path.relative_to(folder)}")
        zipped.comment = commit.encode()
