"""The line of a run in a notebook: one output that changes, in a real display's terms."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import IPython.display
import pytest

from vfm_isbench.progress import RunProgress, bars

Shown = list[tuple[str, dict[str, str], str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    """Everything that a notebook would show: how, what, and the id of the output."""
    found: Shown = []

    def recorder(how: str) -> Any:
        return lambda content, *, raw, display_id: found.append((how, content, display_id))

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", recorder("new"))
    monkeypatch.setattr(IPython.display, "update_display", recorder("changed"))
    yield found


def test_one_output_of_the_cell_changes(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress() as run:
        run.print("about to start")
        run.expect({"training": 50.0, "<b>davis": 30.0})
        with run.part("training", 2) as part:
            part.advance(loss="0.500")
        with run.part("<b>davis", 1) as part:
            part.advance(NoC90="3.25")
    assert [how for how, _, _ in shown] == ["new"] + ["changed"] * (len(shown) - 1)
    assert len({display_id for *_, display_id in shown}) == 1
    first, last = shown[0][1], shown[-1][1]
    assert first["text/plain"].startswith("training 0% 0 s so far, 1 min 20 s left (50 s of training)")
    assert last["text/plain"].startswith("<b>davis 100%") and last["text/plain"].endswith(
        "so far, 0 s left  NoC90 3.25"
    ), "the last part is the whole rest"
    assert "<b>" not in last["text/html"] and '<progress value="1.0000"' in last["text/html"]
    assert capsys.readouterr() == ("about to start\n", ""), "nothing on standard error, which notebooks show in red"


def test_a_notebook_is_not_flooded(shown: Shown) -> None:
    with RunProgress() as run, run.part("training", 1000) as part:
        for _ in range(1000):
            part.advance()
    assert len(shown) < 10


def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bars.in_notebook()
    terminal = types.SimpleNamespace(config={"TerminalIPythonApp": {}})
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: terminal)
    assert not bars.in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not bars.in_notebook()
