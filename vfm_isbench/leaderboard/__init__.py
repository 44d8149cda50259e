"""The leaderboard: entries with their evidence, the checks they must pass, their ranking, and the page."""

from vfm_isbench.leaderboard.board import Board, load_board
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.page_data import page_data

__all__ = ["Board", "Entry", "load_board", "page_data"]
