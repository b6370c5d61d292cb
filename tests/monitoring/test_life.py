"""Signs of life: what grows while a process works, and how long nothing is waited for."""

import os
import signal
import subprocess
import sys
import time

import pytest

from featviz_callback.monitoring import life
from featviz_callback.monitoring.life import Life


class Silent:
    """An executor that tells nothing of its workers."""


class Child:
    """A process that works all the time, as pools have them."""

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        self.pid = self._process.pid

    def is_alive(self):
        return self._process.poll() is None

    def kill(self):
        self._process.kill()
        self._process.wait()


class Pool:
    def __init__(self, child):
        self._processes = {child.pid: child}


@pytest.fixture
def child():
    found = Child()
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(life, "LEAST", 1.0)
    monkeypatch.setattr(life, "TIMES", 0)
    monkeypatch.setattr(life, "_EVERY", 0.1)


def seconds_until_gone(one, most):
    began = time.monotonic()
    while one.why_gone() is None and time.monotonic() - began < most:
        time.sleep(0.02)
    return time.monotonic() - began


def test_a_process_that_works_is_waited_for_and_one_that_is_stopped_is_not(child):
    one = Life(Pool(child))
    assert seconds_until_gone(one, most=3) >= 3
    os.kill(child.pid, signal.SIGSTOP)
    assert seconds_until_gone(one, most=30) < 30


def test_a_pool_that_is_shut_down_forgets_its_processes_but_they_are_watched(child):
    pool = Pool(child)
    one = Life(pool)
    time.sleep(0.2)
    assert one.why_gone() is None
    pool._processes = None
    assert seconds_until_gone(one, most=3) >= 3
    child.kill()
    assert seconds_until_gone(one, most=30) < 30


def test_where_nobody_knows_time_decides_by_what_results_have_taken(monkeypatch):
    monkeypatch.setattr(life, "LEAST", 0.3)
    monkeypatch.setattr(life, "TIMES", 4)
    monkeypatch.setattr(life, "_FIRST", 0.3)
    one = Life(Silent())
    assert seconds_until_gone(one, most=9) >= 1.2
    assert "no worker shows a sign of life" in str(one.why_gone())
    one.begin()
    assert one.why_gone() is None
    one.end()
    # After a short wait, the least one.
    assert 0.3 <= seconds_until_gone(one, most=9) < 1.2
    one.begin()
    time.sleep(0.2)
    one.end()
    assert 0.8 <= seconds_until_gone(one, most=9) < 9
