"""The board in a notebook."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from result_builder import synthetic_entry

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard import Board, load_board

NASTY = "<img src=x onerror=alert(1)>"


def test_a_notebook_shows_a_table_per_group_best_first() -> None:
    good, poor = synthetic_entry("bilinear", skill=1.0), synthetic_entry("nearest", skill=0.0)
    limited = synthetic_entry("jbu", protocol=good.protocol.replace(object_limit=20))
    board = Board((good, poor, limited))
    html = board._repr_html_()
    assert html.count("<table") == 2
    assert html.index(">bilinear<") < html.index(">nearest<")
    assert f">{board.standings[good.id].overall}<" in html
    assert "only the first 20 objects of each test set were evaluated" in html
    assert html.count(">why unranked<") == 1


def test_names_are_escaped() -> None:
    html = Board((dataclasses.replace(synthetic_entry("bilinear"), name=NASTY),))._repr_html_()
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_an_empty_board_says_so() -> None:
    assert "The board has no entries." in Board(())._repr_html_()


def test_repr_is_one_short_line() -> None:
    board = Board((synthetic_entry("bilinear"), synthetic_entry("nearest")))
    assert repr(board) == "<Board: 2 entries in 1 group, 0 removed>"


def test_the_folder_of_the_board_may_be_a_text(tmp_path: Path) -> None:
    entry = synthetic_entry("bilinear")
    entry.save(tmp_path)
    (found,) = load_board(str(tmp_path)).entries
    assert found.id == entry.id and (found,) == load_board(tmp_path).entries
    with pytest.raises(LeaderboardError, match="no folder of entries 'absent'|no folder of entries absent"):
        load_board("absent")
