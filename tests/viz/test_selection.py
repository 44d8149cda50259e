"""The worst objects first, the best first, and objects by name."""

from __future__ import annotations

import pytest
from result_builder import NAN, result_of

from vfm_isbench.errors import PictureError, UnknownNameError
from vfm_isbench.viz import best_objects, find_objects, worst_objects

IOUS = [[0.9, 0.5, 0.5], [0.1, 0.2, 0.3], [0.1, 0.2, 0.2], [0.1, 0.91, 0.92], [0.1, 0.8, NAN], [0.1, 0.2, 0.95]]
FOUND = result_of("a", {"scenes": IOUS}).datasets["scenes"]


def ids(evidence) -> list[str]:
    return [str(one.object_id) for one in evidence]


def test_by_clicks_needed_then_by_the_last_iou() -> None:
    # The fifth was stopped after two clicks: it needs at least three, as many as the last one needs.
    order = ["image0001:1", "image0000:2", "image0002:1", "image0002:2", "image0001:2", "image0000:1"]
    assert ids(worst_objects(FOUND, 6)) == order
    assert ids(best_objects(FOUND, 6)) == order[::-1]
    assert ids(worst_objects(FOUND, 2)) == order[:2]
    assert ids(best_objects(FOUND, 2)) == order[::-1][:2]
    assert len(worst_objects(FOUND, 50)) == 6, "as many as there are"


def test_objects_by_name() -> None:
    assert ids(find_objects(FOUND, ["image0002:2", "image0000", "image0000:1"])) == [
        "image0002:2",
        "image0000:1",
        "image0000:2",
    ]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'image0002:2'\?.*IMAGE:INSTANCE"):
        find_objects(FOUND, ["image0002:22"])


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_count_out_of_range(count: int) -> None:
    with pytest.raises(PictureError, match="1 … 100"):
        worst_objects(FOUND, count)
    with pytest.raises(PictureError, match="1 … 100"):
        best_objects(FOUND, count)
