"""Which run of Ansible holds the turn of a release, and whether it is over."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time

from ansible_collections.groundwork.django.plugins.plugin_utils import controller_run

FORK = multiprocessing.get_context("fork")
"""How Ansible makes the processes of its actions."""


def run_of(process: subprocess.Popen) -> dict:
    """What a run would say of itself whose ansible-playbook is this process."""
    return {**controller_run.this_run(), "pid": process.pid, "start": controller_run._start(process.pid)}


def test_a_run_is_known_by_the_process_that_forked_it():
    run = controller_run.this_run()
    assert run["pid"] == os.getppid()
    assert run["start"] > 0
    assert "@" in run["operator"]
    assert not controller_run.has_ended(run)


def test_a_run_of_this_machine_that_was_killed_has_ended():
    process = subprocess.Popen(["sleep", "60"])
    run = run_of(process)
    assert not controller_run.has_ended(run)
    process.kill()
    process.wait()
    assert controller_run.has_ended(run)


def orphan(pipe) -> None:
    """Say which run this is, once before and once after the process that forked this one is gone."""
    parent = multiprocessing.parent_process().pid
    pipe.send(controller_run.this_run())
    while os.getppid() == parent:
        time.sleep(0.01)
    pipe.send(controller_run.this_run())


def leave_an_orphan(pipe) -> None:
    FORK.Process(target=orphan, args=(pipe,)).start()
    time.sleep(0.5)
    os._exit(0)


def test_what_outlives_a_killed_run_knows_that_it_does():
    ours, theirs = multiprocessing.Pipe()
    middle = FORK.Process(target=leave_an_orphan, args=(theirs,))
    middle.start()
    before = ours.recv()
    middle.join()
    after = ours.recv()
    assert before["pid"] == after["pid"] == middle.pid
    assert not controller_run.is_orphaned(before)
    assert controller_run.is_orphaned(after)
    assert controller_run.has_ended(before)


def test_another_process_with_its_number_is_not_taken_for_it():
    run = controller_run.this_run()
    assert controller_run.has_ended({**run, "start": run["start"] + 1})


def test_a_run_of_another_machine_may_go_on():
    process = subprocess.Popen(["true"])
    run = run_of(process)
    process.wait()
    assert not controller_run.has_ended({**run, "machine": "another"})
    assert not controller_run.has_ended({})
