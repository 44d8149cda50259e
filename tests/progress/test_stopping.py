"""Signals: held back until the work is kept, and otherwise as they are without this library."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from vfm_isbench.errors import Terminated
from vfm_isbench.progress import StopSignals, stopped_in_order, stopping

CTRL_C, KILL, HANG_UP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    # In the background or under nohup, these tests would inherit signals that are ignored.
    usual = {number: signal.default_int_handler if number == CTRL_C else signal.SIG_DFL for number in stopping.SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    found = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert found == usual


@pytest.mark.parametrize(("number", "code"), [(KILL, 143), (HANG_UP, 129)])
def test_a_signal_takes_effect_where_the_work_is_kept(number: int, code: int, capsys: pytest.CaptureFixture) -> None:
    stop, done = StopSignals(), []
    with pytest.raises(Terminated) as caught, stop.heard(), stop.held_back():
        for step in range(4):
            if step == 1:
                signal.raise_signal(number)
                signal.raise_signal(KILL)  # terminals and schedulers send more than one
            done.append(step)
            assert stop.is_wanted is (step == 1)
            stop.stop_here()
    assert done == [0, 1]
    assert caught.value.code == code
    assert f"{caught.value.signal_name}: finishing the current step and saving\n" in capsys.readouterr().err


def test_ctrl_c_waits_once_and_the_second_one_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    stop = StopSignals()
    with pytest.raises(KeyboardInterrupt), stop.heard(), stop.held_back():
        signal.raise_signal(CTRL_C)
        clock[0] = 0.1
        signal.raise_signal(CTRL_C)  # the same, passed on by a wrapper of the command
        assert stop.is_wanted
        clock[0] = 1.0
        signal.raise_signal(CTRL_C)
        pytest.fail("it went on")
    with pytest.raises(KeyboardInterrupt), stop.heard(), stop.held_back():
        signal.raise_signal(CTRL_C)
        stop.stop_here()


def test_outside_the_work_ctrl_c_acts_at_once() -> None:
    stop = StopSignals()
    with pytest.raises(KeyboardInterrupt), stop.heard():
        signal.raise_signal(CTRL_C)
        pytest.fail("it went on")


def test_a_signal_in_the_last_step_stops_after_it() -> None:
    stop = StopSignals()
    with pytest.raises(Terminated), stop.heard(), stop.held_back():
        signal.raise_signal(KILL)
    with stop.heard(), stop.held_back():  # and is forgotten then
        stop.stop_here()


def test_an_error_comes_before_a_signal() -> None:
    stop = StopSignals()
    with pytest.raises(ZeroDivisionError), stop.heard(), stop.held_back():
        signal.raise_signal(KILL)
        raise ZeroDivisionError
    stop.stop_here()


def test_handlers_of_the_program_and_ignored_signals_are_left_alone() -> None:
    heard, stop = [], StopSignals()
    before = signal.signal(KILL, lambda number, _frame: heard.append(number)), signal.signal(HANG_UP, signal.SIG_IGN)
    try:
        with stop.heard(), stop.held_back():
            signal.raise_signal(KILL)
            signal.raise_signal(HANG_UP)  # as under nohup
            assert not stop.is_wanted
    finally:
        signal.signal(KILL, before[0])
        signal.signal(HANG_UP, before[1])
    assert heard == [KILL]


def test_other_threads_hear_nothing() -> None:
    found: list[object] = []

    def work() -> None:
        with StopSignals().heard():
            found.append(signal.getsignal(KILL))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(KILL)]


def test_what_is_kept_is_said(caplog: pytest.LogCaptureFixture) -> None:
    stop = StopSignals()
    with (
        pytest.raises(KeyboardInterrupt, match="interrupted; all of it is kept"),
        stopped_in_order(stop, "all of it is kept"),
    ):
        signal.raise_signal(CTRL_C)
    with pytest.raises(Terminated), stopped_in_order(stop, "all of it is kept"), stop.held_back():
        signal.raise_signal(KILL)
    assert caplog.messages == ["stopped by SIGTERM; all of it is kept"]
