"""The leaderboard: entries as evidence on disk, what is checked of them, how they are ranked, and what is shown."""

from vfm_isbench.leaderboard.board import Board, load_board
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.page_data import page_data

__all__ = ["Board", "Entry", "load_board", "page_data"]
