"""A run that is killed at any point and started again converges."""

from __future__ import annotations

KILLS = 10
AFTER = (0.15, 0.7, 1.3, 2.2)
"""Seconds into the task, in turn."""


def test_ten_killed_runs_and_one_more_make_the_whole_site(machine):
    plan = machine.play("forge", "--check")
    tasks = plan.output.count("\nTASK [")
    killed_at = []
    for number in range(KILLS):
        # From the first tasks to the last, and early and late in what a batch does.
        at = 4 + number * (tasks - 6) // (KILLS - 1)
        task = machine.killed("forge", at, after=AFTER[number % len(AFTER)])
        assert task, f"the run had fewer than {at} tasks"
        killed_at.append(task)
    assert len(set(killed_at)) == KILLS, killed_at

    machine.play("forge")
    assert machine.get("/")[0] == 200
    assert machine.get("/readyz")[0] == 200

    again = machine.play("forge")
    assert again.changes == [], again.output
    assert machine.shell("find / -xdev -name '.groundwork-*' -o -xdev -name '*.groundwork-new' | head").strip() == ""
    assert machine.shell("systemctl --failed --no-legend --plain").strip() == ""
