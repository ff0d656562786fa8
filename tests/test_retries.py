"""Work that is repeated from a thread until it succeeds."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastws_compat.threads.retries import Retry

# The main thread ends while another one goes on: Python starts no threads then.
EXITING = """
import threading, time
from fastws_compat.threads import retries

def look():
    threading.main_thread().join()
    time.sleep(0.3)  # many intervals

async def fail():
    raise ConnectionError

retries.Retry(fail).arm(0.05)
threading.Thread(target=look).start()
"""


class Work:
    """An attempt that fails as often as it is told; it may do something first."""

    def __init__(self, failures: int = 0, first: Callable[[], None] = lambda: None) -> None:
        self.failures, self.first = failures, first
        self.number = 0
        self.attempted = threading.Semaphore(0)

    async def attempt(self) -> None:
        self.number += 1
        self.first()
        self.attempted.release()
        if self.number <= self.failures:
            raise ConnectionError

    def wait(self, times: int) -> None:
        for _ in range(times):
            assert self.attempted.acquire(timeout=20)


def wait_until_idle(retry: Retry) -> None:
    while (timer := retry._timer) is not None:
        timer.join(20)


def test_work_is_attempted_until_it_succeeds() -> None:
    work = Work(failures=2)
    retry = Retry(work.attempt)
    retry.arm(0.01)
    work.wait(3)
    wait_until_idle(retry)
    assert work.number == 3


def test_work_that_comes_while_an_attempt_runs_is_not_forgotten() -> None:
    """The attempt may have looked for work before it came."""
    work = Work(first=lambda: retry.arm(0.01) if work.number == 1 else None)
    retry = Retry(work.attempt)
    retry.arm(0.01)
    work.wait(2)
    wait_until_idle(retry)
    assert work.number == 2


def test_only_one_thread_waits() -> None:
    retry = Retry(Work().attempt)
    retry.arm(60)
    timer = retry._timer
    retry.arm(60)
    assert retry._timer is timer is not None
    timer.cancel()


def test_a_thread_that_a_fork_has_lost_is_replaced() -> None:
    work = Work()
    retry = Retry(work.attempt)
    retry._timer = threading.Timer(60, print)  # it was never started here
    retry.arm(0.01)
    work.wait(1)
    wait_until_idle(retry)


def test_nothing_is_attempted_while_python_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def is_alive(self) -> bool:
            return False

    work = Work()
    retry = Retry(work.attempt)
    monkeypatch.setattr(threading, "main_thread", Ended)
    retry.arm(0.01)
    timer: Any = retry._timer
    timer.join(20)
    assert work.number == 0
    assert retry._timer is timer


def test_a_process_that_exits_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXITING], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
