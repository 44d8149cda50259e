"""The line of a run: how much is done, the time left, and what a terminal or a file shows of it."""

from __future__ import annotations

import errno
import io
import re
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.progress import RunProgress, line
from vfm_isbench.progress.bars import TerminalBar


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    with monkeypatch.context() as patched:
        patched.setattr(line, "time", found)
        yield found


def test_the_time_left_is_that_of_all_parts(clock: Clock) -> None:
    run = RunProgress(is_shown=False)
    run.expect({"training": 100.0, "davis": 300.0})
    with run.part("training", 10) as part:
        assert run.state() == (0.0, 400.0), "what was expected, before anything is known"
        for _ in range(5):
            clock.now += 20  # twice as slow as expected
            part.advance()
        assert run.state() == pytest.approx((100 / 500, 100 + 300))
        for _ in range(5):
            clock.now += 20
            part.advance()
    with run.part("davis", 3) as part:
        assert run.state() == pytest.approx((200 / 500, 300))
        clock.now += 100
        part.advance()
        assert run.state() == pytest.approx((300 / 500, 200))


def test_the_first_steps_do_not_decide(clock: Clock) -> None:
    run = RunProgress(is_shown=False)
    run.expect({"training": 1000.0})
    with run.part("training", 1000) as part:
        clock.now += 60  # the first step starts the workers
        part.advance()
        _, left = run.state()
    assert left is not None and left < 3000, "60 s for the first of 1000 steps are not 60,000 s"


def test_a_part_that_stands_alone_is_judged_by_its_own_speed(clock: Clock) -> None:
    run = RunProgress(is_shown=False)
    with run.part("grabcut", 50) as part:
        assert run.state() == (0.0, None)
        clock.now += 10
        part.advance(5)
        assert run.state() == pytest.approx((0.1, 90))


def test_what_an_earlier_run_did_takes_no_time(clock: Clock) -> None:
    run = RunProgress(is_shown=False)
    run.expect({"sbd": 100.0})
    with run.part("sbd", 100) as part:
        part.skip(60)
        assert run.state() == pytest.approx((0.0, 40))
        clock.now += 30
        part.advance(20)
        assert run.state() == pytest.approx((0.5, 30))


@given(
    steps=st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=30),
    expected=st.one_of(st.none(), st.floats(0, 1e4)),
)
def test_the_fraction_stays_between_nothing_and_all(steps: list[tuple[float, bool]], expected: float | None) -> None:
    now = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(line, "time", now)
        run = RunProgress(is_shown=False)
        run.expect({} if expected is None else {"part": expected})
        with run.part("part", len(steps)) as part:
            for seconds, is_new in steps:
                now.now += seconds
                (part.advance if is_new else part.skip)()
                done, left = run.state()
                assert 0 <= done <= 1 and (left is None or left >= 0)
        assert part.fraction == 1


def test_one_line_shows_parts_figures_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress() as run:
        run.print("about to start")
        run.expect({"training": 50.0, "davis": 30.0})
        with run.part("training", 2) as part:
            part.say("epoch 1/2")
            part.advance(loss="0.500")
        with run.part("davis\x1b[2J", 1) as part:
            part.advance(NoC90="3.25")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = re.split(r"[\r\n]+", printed.err)
    assert lines[0] == "about to start"
    assert any(re.search(r"training +0%\|.*so far, 1 min 20 s left \(50 s of training\)", shown) for shown in lines)
    assert re.search(r"davis\\x1b\[2J .*NoC90 3.25$", lines[-2]), "names cannot command the terminal"
    assert printed.err.count("\n") == 2, "the text above, and one line for the whole run"


def test_without_an_expectation_the_time_left_is_only_that_of_the_part(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress() as run, run.part("training", 2) as part:
        part.advance()
    assert "left of this part" in capsys.readouterr().err


def test_a_file_gets_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress() as run, run.part("training", 1000) as part:
        for _ in range(1000):
            part.advance()
    assert capsys.readouterr().err.count("\r") < 6


def test_nothing_is_shown_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    options = RunOptions(progress=False)
    with options.progress_of("training", 3) as part:
        part.advance(loss="1")
    with RunProgress(is_shown=False) as run:
        run.print("unseen")
    assert capsys.readouterr() == ("", "")


def test_a_line_that_nobody_reads_any_more_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    with RunProgress() as progress, progress.part("training", 2) as part:
        progress.print("start")
        part.advance()
        part.advance()
    assert part.fraction == 1.0


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_terminal_that_is_closed_leaves_no_lock_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another bar in another thread, or tqdm's own thread at the end of the program, would wait for ever."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with RunProgress() as run, run.part("training", 10) as part:
        part.advance()
        monkeypatch.setattr(sys, "stderr", Gone())
        for bar in TerminalBar._instances:
            monkeypatch.setattr(bar.fp, "write", Gone().write)
            bar.sp = bar.status_printer(Gone())
        for _ in range(3):
            run.show(at_once=True)
    found: list[bool] = []
    lock = TerminalBar.get_lock()
    thread = threading.Thread(
        target=lambda: found.append(lock.locks[0].acquire(True, 5) and not lock.locks[0].release())
    )
    thread.start()
    thread.join()
    assert found == [True]
