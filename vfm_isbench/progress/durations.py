"""Times in words."""

from __future__ import annotations

_UNITS = ((86400, "day", 3600, "h", 3), (3600, "h", 60, "min", 24), (60, "min", 1, "s", 60))
"""Seconds and name of a unit, the same of the next smaller one, and up to how many whole ones that one is given."""


def rough(seconds: float) -> str:
    """A long time, in the two largest units.

    >>> [rough(seconds) for seconds in (0.4, 59.6, 3570, 3600 * 5, 3600 * 30)]
    ['0 s', '1 min', '1 h', '5 h', '30 h']
    >>> rough(4000), rough(90), rough(86400 * 2.26), rough(86400 * 12.3)
    ('1 h 7 min', '1 min 30 s', '2 days 6 h', '12 days')
    """
    for unit, name, smaller, small_name, most in _UNITS:
        least = 2 * unit if name == "day" else unit
        if round(seconds / smaller) * smaller >= least:
            whole, rest = divmod(round(seconds / smaller), unit // smaller)
            return f"{whole} {name}{'s' if name == 'day' else ''}" + (
                f" {rest} {small_name}" if rest and whole < most else ""
            )
    return f"{round(seconds)} s"
