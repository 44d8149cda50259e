"""Where the code of this library is, for links and commands that readers see."""

from __future__ import annotations

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.schema import url_problem

REPOSITORY: str | None = None
"""Web address of this library's repository. The one place to set it; without it, no link to the repository is shown."""

PLACEHOLDER = "https://github.com/OWNER/vfm_isbench"
"""Stands for this library's own code in entries of versions up to 0.4.0, which had to have an address. Never shown."""


def checked_repository(address: str | None) -> str | None:
    """The given address, or :data:`REPOSITORY` if none is given.

    Raises:
        LeaderboardError: if it is not a web address.
    """
    if address is None:
        return REPOSITORY
    problem = url_problem(address)
    if problem:
        raise LeaderboardError(f"--repository {address!r} {problem}")
    return address
