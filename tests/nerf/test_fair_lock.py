"""The training lock lets everybody have a turn."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.nerf.nerfstudio_fixes.fair_lock import FairLock


def start(target, *args) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def wait_until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_one_at_a_time():
    lock = FairLock()
    seen: list[int] = []

    def count() -> None:
        for _ in range(300):
            with lock:
                seen.append(len(seen))
                before = len(seen)
                time.sleep(0)
                assert len(seen) == before

    threads = [start(count) for _ in range(4)]
    for thread in threads:
        thread.join(timeout=60)
    assert seen == list(range(1200))
    assert not lock.locked()


def test_in_the_order_of_asking():
    lock = FairLock()
    order: list[int] = []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        threads = []
        for number in range(5):
            threads.append(start(take, number))
            wait_until(lambda number=number: len(lock._waiting) == number + 1)
    for thread in threads:
        thread.join(timeout=20)
    assert order == list(range(5))


def test_a_loop_that_takes_it_again_at_once_lets_others_in():
    """What a training loop does; threading.Lock lets its other threads starve."""
    lock = FairLock()
    steps = [0]
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            with lock:
                steps[0] += 1
                time.sleep(0.002)

    thread = start(train)
    wait_until(lambda: steps[0] > 2)
    for _ in range(50):
        wait_until(lambda: not lock._waiting)
        before = steps[0]
        with lock:
            # The step that was under way, and perhaps one that began before this thread had asked.
            assert steps[0] <= before + 2
    done.set()
    thread.join(timeout=20)
    assert not lock.locked()


def test_who_gives_up_waiting_is_not_handed_it():
    # Not so by itself where the suite was started in the background: shells have SIGINT ignored there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    lock = FairLock()
    lock.acquire()

    def interrupt() -> None:
        wait_until(lambda: lock._waiting)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    start(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not lock._waiting
    lock.release()
    assert not lock.locked()


def test_releasing_what_nobody_holds():
    with pytest.raises(RuntimeError, match="unlocked"):
        FairLock().release()


def test_the_trainer_has_one():
    trainer = iga_nerf_tiny.config.setup(local_rank=0, world_size=1)
    assert isinstance(trainer.train_lock, FairLock)
