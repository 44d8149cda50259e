"""The leaderboard as one self-contained HTML file: data, style and scripts inline, nothing from the network."""

from vfm_isbench.leaderboard.page.build import build_page, write_page
from vfm_isbench.leaderboard.page.vendored import VendoredFile, vendored_files

__all__ = ["VendoredFile", "build_page", "vendored_files", "write_page"]
