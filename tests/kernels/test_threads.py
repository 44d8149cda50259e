"""Threads share items without a trace: each item is done once, with the caller's modes, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch

from vfm_isbench.kernels import threads
from vfm_isbench.kernels.threads import available, in_parts, share

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "vfm-isbench-share"]
    for thread in left:
        thread.join(timeout=0.5)  # its last lines, after Ctrl-C
    assert not any(thread.is_alive() for thread in left)
    torch.set_num_threads(before)


def test_each_item_is_done_once_by_threads_of_their_own() -> None:
    done, idents, both = [], set(), threading.Barrier(2, timeout=10)

    def work(items: Iterator[int]) -> None:
        both.wait()  # passes only if two threads run at once
        for item in items:
            done.append(item)
            idents.add(threading.get_ident())

    share(range(50), [work, work])
    assert sorted(done) == list(range(50))
    assert threading.get_ident() not in idents


def threads_of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_only_the_threads_themselves_are_limited() -> None:
    inside: list[int] = []

    def work(items: Iterator[int]) -> None:
        inside.extend(torch.get_num_threads() for _ in items)

    torch.set_num_threads(3)
    share(range(1), [work])
    assert inside == [1]
    assert torch.get_num_threads() == threads_of_a_new_thread() == 3


@pytest.mark.parametrize("is_inference", [False, True])
@pytest.mark.parametrize("has_gradients", [False, True])
def test_threads_have_the_modes_of_the_caller(is_inference: bool, has_gradients: bool) -> None:
    found = []

    def work(items: Iterator[int]) -> None:
        found.extend((torch.is_inference_mode_enabled(), torch.is_grad_enabled()) for _ in items)

    with torch.inference_mode(is_inference), torch.set_grad_enabled(has_gradients):
        share(range(4), [work, work])
    assert found == [(is_inference, has_gradients)] * 4


def test_an_error_surfaces_and_stops_the_others() -> None:
    done = []

    def work(items: Iterator[int]) -> None:
        for item in items:
            if item == 3:
                raise MemoryError("strip 3")
            done.append(item)
            time.sleep(0.01)

    with pytest.raises(MemoryError, match="strip 3"):
        share(range(1000), [work, work])
    assert len(done) < 20
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


@pytest.fixture
def ctrl_c_raises() -> Iterator[None]:
    """Programs that a shell starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_stops_after_the_current_item() -> None:
    done = []

    def work(items: Iterator[int]) -> None:
        for item in items:
            if item == 2:
                os.kill(os.getpid(), signal.SIGINT)
            done.append(item)
            time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        share(range(1000), [work, work])
    assert len(done) < 50
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


def shared_sum() -> int:
    torch.set_num_threads(2)
    done: list[int] = []
    share(range(10), [done.extend, done.extend])
    return sum(done)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_shares_again() -> None:
    assert shared_sum() == 45
    with get_context("fork").Pool(1) as pool:  # its processes are daemons
        assert pool.apply_async(shared_sum).get(timeout=60) == 45


def test_one_thread_where_several_cannot_be_arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__config__", SimpleNamespace(parallel_info=lambda: "ATen parallel backend: OpenMP"))
    assert available(CPU) == 2
    assert available(torch.device("meta")) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert available(CPU) == 1
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "ATen parallel backend: native thread pool")
    assert available(CPU) == 1


@pytest.mark.parametrize(("batch", "parts"), [(1, 1), (2, 2), (3, 1), (4, 2)])
def test_a_batch_goes_in_equal_parts_to_all_threads(batch: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available", lambda _: torch.get_num_threads())
    first, second = torch.rand(batch, 3, 128, 128), torch.rand(batch, 1, 1, 1)
    sizes: list[int] = []

    def network(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(len(a))
        return a * b

    with torch.no_grad():
        found = in_parts(network, first, second)
    assert sizes == [batch // parts] * parts
    assert torch.equal(found, first * second)


def test_with_gradients_or_small_images_a_batch_stays_whole() -> None:
    sizes: list[int] = []

    def network(maps: torch.Tensor) -> torch.Tensor:
        sizes.append(len(maps))
        return maps * 2

    in_parts(network, torch.rand(2, 3, 128, 128))
    with torch.no_grad():
        in_parts(network, torch.rand(2, 3, 8, 8))
    assert sizes == [2, 2]
