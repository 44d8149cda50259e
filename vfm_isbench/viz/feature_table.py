"""The figure of upsampling papers: images, their features, and the output of each upsampler, side by side."""

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
        image: H×W×3 uint8 RGB, as the backbone sees it.
        features: C×h×w from the backbone.
        upsampled: C×H'×W' by name of the upsampler.
    """

    image: Array
    features: Array
    upsampled: Mapping[str, Array]


@in_own_style
def feature_table(rows: Sequence[FeatureRow], *, backbone: str) -> Figure:
    """A row per image: the image, its features, and a column per upsampler, coloured by a joint projection.

    Colours come from :func:`vfm_isbench.viz.joint_colours`, with one projection per row: equal features have equal
    colours within a row, but not between rows.

    Args:
        rows: At least one, all with the same upsamplers.
        backbone: Heading of the column of its features.

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
            # Show the cells as they are: smoothing the picture would be another upsampler.
            panel.imshow(picture, interpolation="nearest")
            panel.set_axis_off()
    for panel, name, found in zip(
        axes[0], ["image", backbone, *names], [None, rows[0].features, *rows[0].upsampled.values()], strict=True
    ):
        size = "" if found is None else f"\n{found.shape[1]}×{found.shape[2]}"
        panel.set_title(plain(name, 24) + size, loc="center", fontsize=7.5)
    write_caption(
        figure,
        ["Features as the first three principal components of all maps in a row, with equal weight per map."],
    )
    return figure
