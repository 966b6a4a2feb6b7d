"""One run at a time may release a site, and a run that died does not keep the others out."""

from __future__ import annotations

import multiprocessing
import time

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import release_lock
from ansible_collections.groundwork.django.plugins.module_utils.release_lock import Held, ReleaseLock

ADA = {"machine": "laptop", "pid": 10, "start": 1, "operator": "ada@laptop"}
BOB = {"machine": "desk", "pid": 20, "start": 2, "operator": "bob@desk"}


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(release_lock, "DIRECTORY", str(tmp_path / "releases"))
    return tmp_path / "releases"


@pytest.fixture
def later(monkeypatch):
    """A function that sets the clock of the host's uptime forward."""
    real = time.clock_gettime
    passed = 0.0

    def pass_seconds(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(release_lock.time, "clock_gettime", lambda clock: real(clock) + passed)
    return pass_seconds


def step(run: dict, over: bool = False, **options) -> ReleaseLock:
    with ReleaseLock("forge", run, **options) as lock:
        lock.over = over
    return lock


def test_a_second_run_is_told_who_has_the_turn_and_since_when():
    step(ADA)
    with pytest.raises(Held, match=r"forge is being released by ada@laptop since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"):
        step(BOB)


def test_the_same_run_goes_on_and_its_last_step_ends_the_turn():
    step(ADA)
    step(ADA)
    step(ADA, over=True)
    step(BOB)


def test_a_step_that_fails_ends_the_turn():
    with pytest.raises(ValueError), ReleaseLock("forge", ADA):
        raise ValueError
    step(BOB)


def test_another_site_has_a_turn_of_its_own():
    step(ADA)
    with ReleaseLock("annex", BOB):
        pass


def test_the_turn_of_a_run_that_died_ends_after_a_while(later):
    step(ADA)
    later(release_lock.LEASE_SECONDS - 1)
    with pytest.raises(Held):
        step(BOB)
    later(2)
    step(BOB)
    with pytest.raises(Held, match="bob@desk"):
        step(ADA)


def test_the_turn_of_a_run_that_is_known_to_be_gone_counts_for_nothing():
    step(ADA)
    with pytest.raises(Held) as held:
        step(BOB)
    step(BOB, gone=held.value.run)


def hold(directory: str, ready, end) -> None:
    release_lock.DIRECTORY = directory
    with ReleaseLock("forge", ADA):
        ready.set()
        end.wait(10)


def test_a_step_that_runs_keeps_its_turn_however_long_it_takes(directory, later, monkeypatch):
    monkeypatch.setattr(release_lock, "WAIT_SECONDS", 0.5)
    ready, end = multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=hold, args=(str(directory), ready, end))
    holder.start()
    assert ready.wait(10)
    later(10 * release_lock.LEASE_SECONDS)
    with pytest.raises(Held, match="ada@laptop"):
        step(BOB, gone=ADA)
    end.set()
    monkeypatch.setattr(release_lock, "WAIT_SECONDS", 10)
    step(BOB, gone=ADA)
    holder.join()


def test_half_a_note_is_no_turn(directory):
    step(ADA)
    (directory / "forge.json").write_text('{"run": {')
    step(BOB)


def test_it_says_how_long_the_turn_has_taken(later):
    step(ADA)
    later(5)
    assert 5 <= step(ADA).seconds < 6
