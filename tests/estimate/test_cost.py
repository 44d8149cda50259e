"""The estimate in a notebook."""

from __future__ import annotations

import html

from vfm_isbench.estimate import CostEstimate
from vfm_isbench.estimate.cost import Part
from vfm_isbench.estimate.timing import ClickCost, TrainingCost

FOUND = CostEstimate(
    title="<b>mine</b> under the protocol demo",
    downloads=(),
    parts=(Part("training", "3 steps", 90.0),),
    training=TrainingCost(0.1, 0.1, 0.1, None),
    clicks=ClickCost(0.1, 0.1, 0.1, (100, 100), None),
    batch_size=2,
    peak_bytes=None,
    memory_of="",
    run_folder_bytes=1000,
)


def test_a_notebook_shows_the_text_escaped() -> None:
    shown = FOUND._repr_html_()
    assert "<b>" not in shown
    assert html.unescape(shown.partition(">")[2].removesuffix("</pre>")) == str(FOUND)


def test_repr_is_one_short_line() -> None:
    assert repr(FOUND) == "<CostEstimate '<b>mine</b> under the protocol demo': 1 min 30 s>"
