"""The difficulty settings of the embedded scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from vfm_isbench.errors import ProtocolError

REFERENCE_SIDE = 224.0
"""Shorter image side, in pixels, to which lengths of a :class:`SceneStyle` refer; lengths scale with that side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneStyle:
    """What scenes look like, and therefore how hard they are. The defaults are the demo protocol's.

    Lengths are pixels of an image whose shorter side is 224; shares and probabilities lie in [0, 1]; amounts are
    factors on the default look, and 0 switches it off.

    Attributes:
        objects_per_image: Minimum and maximum number of objects per image. An image may have fewer than were drawn if
            there is no room, but never fewer than the minimum.
        object_radius: Range of an object's radius; thin and holed objects are somewhat larger.
        polygonal_share: Probability of a polygonal object; the three shares leave the rest to smooth objects.
        thin_share: Probability of an object made of thin parts: bent strips, arms, long spikes, forks.
        holed_share: Probability of an object with holes: rings, frames, wheels, pierced blobs.
        thin_width: Range of the width of thin parts, and of the width of small holes.
        touch_share: Probability that an object is placed against an earlier one, touching or partly hiding it.
        min_visible_area: Minimum visible area of an object, as a share of the image's area.
        min_visible_share: Minimum visible share of an object's own area, after image border and occlusion.
        background_contrast: Amount of brightness and colour variation in the background.
        background_saturation: Factor on the background's colour saturation; higher makes it look more like objects.
        clutter: Amount of small distractors, which belong to the background.
        object_saturation: Range of the colour saturation of objects, in [0, 1].
        texture_contrast: Range of the contrast between an object's two colours; 1 keeps the colours as drawn.
        low_contrast_share: Probability that an object is coloured like the background around it.
        edge_softness: Standard deviation of the blur over the finished image, in pixels of that image.
        shading: Amount of shading within objects and of uneven illumination.
        shadow: Darkness of cast shadows.
        sensor_noise: Maximum deviation of a pixel from its noiseless value, as a share of the full range.
    """

    objects_per_image: tuple[int, int] = (2, 3)
    object_radius: tuple[float, float] = (66.0, 90.0)
    polygonal_share: float = 0.24
    thin_share: float = 0.05
    holed_share: float = 0.08
    thin_width: tuple[float, float] = (12.0, 20.0)
    touch_share: float = 0.08
    min_visible_area: float = 0.006
    min_visible_share: float = 0.65
    background_contrast: float = 0.6
    background_saturation: float = 0.3
    clutter: float = 0.4
    object_saturation: tuple[float, float] = (0.55, 0.95)
    texture_contrast: tuple[float, float] = (0.35, 0.9)
    low_contrast_share: float = 0.03
    edge_softness: float = 0.45
    shading: float = 1.0
    shadow: float = 1.0
    sensor_noise: float = 0.02

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = value if isinstance(value, tuple) else (value, value)
            if not (math.isfinite(low) and math.isfinite(high) and 0 <= low <= high):
                raise _out_of_range(field.name, value, "finite, not negative, and the lower bound first")
            bounded = field.name.endswith("_share") or field.name in ("object_saturation", "texture_contrast")
            if bounded and high > 1:
                raise _out_of_range(field.name, value, "at most 1")
        if self.objects_per_image[0] < 1 or self.objects_per_image[1] > 8:
            raise _out_of_range("objects_per_image", self.objects_per_image, "within 1 to 8 objects")
        if self.object_radius[0] < 12 or self.object_radius[1] > 90:
            raise _out_of_range("object_radius", self.object_radius, "within 12 to 90 px of a 224 px side")
        if self.thin_width[0] < 2 or self.thin_width[1] > 24:
            raise _out_of_range("thin_width", self.thin_width, "within 2 to 24 px of a 224 px side")
        if self.min_visible_area > 0.02:
            raise _out_of_range("min_visible_area", self.min_visible_area, "at most 0.02, as thin objects are small")
        if self.min_visible_share > 0.9:
            raise _out_of_range("min_visible_share", self.min_visible_share, "at most 0.9, or few objects would fit")
        if self.polygonal_share + self.thin_share + self.holed_share > 1 + 1e-9:
            raise ProtocolError(
                "polygonal_share, thin_share and holed_share of a scene style add up to "
                f"{self.polygonal_share + self.thin_share + self.holed_share:g}; lower one so that they stay within 1."
            )


def _out_of_range(name: str, value: object, expected: str) -> ProtocolError:
    return ProtocolError(f"scene style {name}={value!r} is out of range; expected {expected}.")
