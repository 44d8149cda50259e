"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """How many there are of a thing whose plural ends in "s".

    >>> counted(1, "epoch"), counted(2, "thread"), counted(45625, "parameter")
    ('1 epoch', '2 threads', '45,625 parameters')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
