"""Shared by all pictures: figures without pyplot, one style, captions, and reproducible files."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from vfm_isbench.errors import MissingPackageError, PictureError
from vfm_isbench.storage.atomic import write_bytes

try:
    from matplotlib import style
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise MissingPackageError(
        f'pictures need matplotlib, but the module {error.name!r} is not installed: pip install "vfm_isbench[plots]"'
    ) from error

P = ParamSpec("P")
T = TypeVar("T")

FORMATS = ("png", "svg", "pdf")
"""Picture formats, by file ending."""

DPI = 200
"""Dots per inch of PNG files."""

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
"""Okabe and Ito's colours for all kinds of colour vision ("Color Universal Design", 2008), without their yellow, which
is too light for lines. Neighbours also differ in lightness, for black-and-white print."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
"""Markers and dashes: colour is never the only difference."""

GREY = "#555555"

_STYLE: Mapping[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "font.size": 8,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "vfm_isbench",
    # Show a "$" in the name of an upsampler as "$".
    "text.parse_math": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


@contextmanager
def own_style() -> Iterator[None]:
    """Use matplotlib's defaults and this library's style; the user's settings are restored afterwards."""
    with style.context(["default", dict(_STYLE)]):
        yield


def in_own_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorator: draw within :func:`own_style`."""

    @functools.wraps(draw)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        with own_style():
            return draw(*arguments, **options)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """An empty figure on its own canvas, unknown to pyplot.

    Args:
        width: In inches.
        height: In inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid_of_axes(figure: Figure, rows: int, columns: int, used: int, **options: Any) -> list[Axes]:
    """A grid of rows×columns axes, row by row; keeps the first ``used`` and removes the others."""
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for spare in axes[used:]:
        spare.remove()
    return axes[:used]


def clicks_to_mark(cap: int) -> list[int]:
    """A few evenly spaced click numbers, including 1 and the cap."""
    step = max(1, math.ceil(cap / 5))
    return sorted({1, cap, *(click for click in range(step, cap, step) if cap - click >= step / 2)})


def write_below_title(panel: Axes, text: str) -> None:
    """Write a line, wrapped to the panel, between its title and its frame."""
    words = textwrap.fill(text, 46)
    panel.annotate(words, (0, 1), (0, 4), "axes fraction", "offset points", va="bottom", fontsize=7, color=GREY)
    panel.set_title(panel.get_title(loc="left"), pad=6 + 9 * len(words.splitlines()))


def write_caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Write sentences below the picture, wrapped to its width."""
    if not sentences:
        return
    # At 6.5 points, a letter is 1/20 of an inch wide on average.
    lines = textwrap.wrap(" ".join(sentences), max(30, int(20 * figure.get_figwidth())))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6.5, color=GREY)


def caption_of(figure: Figure) -> str:
    """The caption as one line."""
    return " ".join(figure.get_supxlabel().split())


def plain(text: object, most: int = 40) -> str:
    """Text from a result file made safe to draw: one line, printable, shortened in the middle."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    if len(line) <= most:
        return line
    front = (most - 1) // 2
    return f"{line[:front]}…{line[len(line) - (most - 1 - front) :]}"


def check_format(path: Path) -> str:
    """The format of a picture file.

    Raises:
        PictureError: if its ending is not in :data:`FORMATS`.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise PictureError(f"{path} has no known ending; expected {', '.join('.' + name for name in FORMATS)}")
    return ending


def save_figure(figure: Figure, path: str | Path, *, description: str = "", dpi: int = DPI) -> Path:
    """Write a figure as PNG, SVG or PDF, depending on the ending of the path; equal figures give equal files.

    Args:
        figure: Return value of a function of this package.
        path: File to write; its folder is created.
        description: Text for the file's metadata, such as the signatures of the results.
        dpi: Dots per inch of PNG files, and of pixel graphics in SVG and PDF files.

    Raises:
        PictureError: if the ending is unknown, ``dpi`` is out of range, or the file cannot be written.
    """
    path = Path(path)
    ending = check_format(path)
    if not 20 <= dpi <= 1200:
        raise PictureError(f"{dpi} dots per inch asked for; expected 20 … 1200")
    text = "\n".join(plain(line, 1000) for line in description.splitlines())
    # Omit dates and matplotlib's version, so that equal figures give equal files.
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None, "Description": text},
        "svg": {"Date": None, "Creator": None, "Description": text},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": text},
    }
    buffer = io.BytesIO()
    with own_style():
        kept = {key: value for key, value in metadata[ending].items() if value != ""}
        figure.savefig(buffer, format=ending, dpi=dpi, metadata=kept)  # not atomic: into memory
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise PictureError(f"{path} cannot be written: {error}; choose another place") from error
    return path
