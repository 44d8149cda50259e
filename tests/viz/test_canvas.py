"""Files are decodable and equal for equal figures; matplotlib's state stays unchanged."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from result_builder import result_of

from vfm_isbench.errors import PictureError
from vfm_isbench.viz import iou_curves, noc_histogram, save_figure
from vfm_isbench.viz.canvas import PALETTE, clicks_to_mark, plain

RESULT = result_of("a & <b> $", {"scenes": [[0.5, 0.7, 0.9], [0.1, 0.2, 0.6], [0.4, 0.6, 0.8]]})


def test_a_png_can_be_read(tmp_path: Path) -> None:
    path = save_figure(iou_curves([RESULT]), tmp_path / "new" / "curves.png", description="sïgnature\nsecond", dpi=100)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
        assert image.text["Description"] == "sïgnature\nsecond"
        assert "Software" not in image.text
    assert pixels.shape[:2] == (295, 340)
    blue = [int(PALETTE[0][start : start + 2], 16) for start in (1, 3, 5)]
    assert (np.abs(pixels - blue).sum(axis=2) < 12).sum() > 50, "the curve is there"
    border = np.concatenate([pixels[:3].reshape(-1, 3), pixels[:, -3:].reshape(-1, 3)])
    assert (border == 255).all(), "on white"


def test_an_svg_is_well_formed(tmp_path: Path) -> None:
    path = save_figure(noc_histogram([RESULT]), tmp_path / "noc.svg", description=RESULT.signature())
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert RESULT.signature() in path.read_text(encoding="utf-8")
    assert "<script" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_equal_figures_give_equal_files_whatever_the_users_settings(ending: str, tmp_path: Path) -> None:
    first = save_figure(iou_curves([RESULT]), tmp_path / f"first.{ending}")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": None}):
        second = save_figure(iou_curves([RESULT]), tmp_path / f"second.{ending}")
        assert matplotlib.rcParams["font.size"] == 20, "the user's settings are unchanged"
    assert first.read_bytes() == second.read_bytes()
    assert b"matplotlib.org" not in first.read_bytes() or ending == "pdf"


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    figure = noc_histogram([RESULT])
    with pytest.raises(PictureError, match=r"expected \.png, \.svg, \.pdf"):
        save_figure(figure, tmp_path / "a.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(PictureError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "a.png")
    with pytest.raises(PictureError, match="dots per inch"):
        save_figure(figure, tmp_path / "a.png", dpi=5)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_text_is_made_fit_to_be_drawn() -> None:
    assert plain("a\tb\u202e\x1b") == "a b"
    assert plain("x" * 40) == "x" * 40
    assert plain("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"


@pytest.mark.parametrize(
    ("cap", "ticks"), [(20, [1, 4, 8, 12, 16, 20]), (3, [1, 2, 3]), (1, [1]), (10, [1, 2, 4, 6, 8, 10])]
)
def test_ticks_have_the_first_click_and_the_cap(cap: int, ticks: list[int]) -> None:
    assert clicks_to_mark(cap) == ticks


def run(python: list[str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*python, "-c", code], capture_output=True, text=True)


def test_pyplot_is_not_touched_and_matplotlib_is_only_loaded_for_pictures(python: list[str]) -> None:
    code = (
        "import sys, vfm_isbench.cli; assert 'matplotlib' not in sys.modules; import vfm_isbench.viz; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = run(python, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["plot", "absent"], ["show", "absent"], ["features", "bilinear"]])
def test_without_matplotlib_the_extra_is_named(arguments: list[str], python: list[str]) -> None:
    done = run(
        python,
        f"import sys; sys.modules['matplotlib'] = None\nfrom vfm_isbench import cli\nsys.exit(cli.main({arguments!r}))",
    )
    assert done.returncode == 2
    assert 'pip install "vfm_isbench[plots]"' in done.stderr and "Traceback" not in done.stderr
