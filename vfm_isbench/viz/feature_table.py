"""The figure of upsampling papers: images, their features, and what each upsampler makes of them, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from vfm_isbench.errors import PictureError
from vfm_isbench.types import Array
from vfm_isbench.viz.canvas import in_own_style, new_figure, plain, write_caption
from vfm_isbench.viz.feature_pca import joint_colours


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRow:
    """One image and its features.

    Attributes:
        image: H×W×3 uint8 RGB, as the backbone saw it.
        features: C×h×w from the backbone.
        upsampled: Name of the upsampler to C×H'×W'.
    """

    image: Array
    features: Array
    upsampled: Mapping[str, Array]


@in_own_style
def feature_table(rows: Sequence[FeatureRow], *, backbone: str) -> Figure:
    """A row per image: the image, its features, and a column per upsampler, in the colours of a joint projection.

    Colours come from :func:`vfm_isbench.viz.joint_colours`, one projection for everything in a row, so that within a
    row equal features have equal colours. Between rows they have not.

    Args:
        rows: At least one; the same upsamplers in each.
        backbone: What the column of its features is called.

    Raises:
        PictureError: if there is no row, or the upsamplers differ.
    """
    if not rows or any(list(row.upsampled) != list(rows[0].upsampled) for row in rows):
        raise PictureError("expected at least one image, and the same upsamplers for each")
    names = list(rows[0].upsampled)
    columns = 2 + len(names)
    figure = new_figure(1.45 * columns, 1.45 * len(rows) + 0.7)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, panels in zip(rows, axes, strict=True):
        maps = [row.features, *(row.upsampled[name] for name in names)]
        pictures: list[Array] = [row.image, *joint_colours(maps)]
        for panel, picture in zip(panels, pictures, strict=True):
            # Cells are shown as what they are: a smooth picture would be an upsampler of its own.
            panel.imshow(picture, interpolation="nearest")
            panel.set_axis_off()
    for panel, name, found in zip(
        axes[0], ["image", backbone, *names], [None, rows[0].features, *maps_of(rows[0])], strict=True
    ):
        size = "" if found is None else f"\n{found.shape[1]}×{found.shape[2]}"
        panel.set_title(plain(name, 24) + size, loc="center", fontsize=7.5)
    write_caption(
        figure,
        ["Features as the first three principal components of all maps in a row, each map counting the same."],
    )
    return figure


def maps_of(row: FeatureRow) -> list[Array]:
    """The upsampled maps of a row, in order."""
    return list(row.upsampled.values())
