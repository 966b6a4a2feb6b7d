"""What was killed for memory is told by the kernel's counters and by systemd, which are made up here."""

from __future__ import annotations

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import memory
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

GROUP = "/system.slice/forge@blue.service"
UNIFIED = "low 0\nhigh 0\nmax 38\noom 1\noom_kill {}\noom_group_kill 0\n"
OLDER = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


@pytest.fixture
def site(monkeypatch) -> Site:
    site = Site(
        dict.fromkeys(("directory", "run_directory", "static_directory", "log_directory"), "/nonexistent")
        | {"name": "forge", "user": "root"}
    )
    shown = {"ControlGroup": GROUP, "InvocationID": "0123", "MemoryMax": str(600 << 20)}
    asked = []

    def properties(unit: str, *names: str) -> dict[str, str]:
        asked.append(unit)
        return {name: shown[name] for name in names}

    monkeypatch.setattr(site, "properties", properties)
    monkeypatch.setattr(site, "asked", asked, raising=False)
    monkeypatch.setattr(site, "shown", shown, raising=False)
    monkeypatch.setattr(memory, "run_merged", lambda command: (0, site.said if command[1] == "--no-pager" else ""))
    monkeypatch.setattr(memory, "COUNTERS", ())
    site.said = "Started forge@blue.service - forge, slot blue.\n"
    return site


def count(monkeypatch, tmp_path, where: str, text: str) -> None:
    """Have the kernel count for the unit."""
    path = tmp_path / where.format(GROUP).lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="ascii")
    monkeypatch.setattr(memory, "COUNTERS", [f"{tmp_path}/absent{{}}", f"{tmp_path}{where}"])


@pytest.mark.parametrize(("counter", "text"), [("{}/memory.events", UNIFIED), ("/memory{}/memory.oom_control", OLDER)])
def test_the_kernel_counts_what_it_killed(site, monkeypatch, tmp_path, counter, text):
    count(monkeypatch, tmp_path, counter, text.format(2))
    assert memory.kills(site, "blue") == 2
    assert memory.lack(site, "blue") == (
        "a process of it was killed for memory (gunicorn_app_memory_megabytes allows 600)"
    )


@pytest.mark.parametrize(("counter", "text"), [("{}/memory.events", UNIFIED), ("/memory{}/memory.oom_control", OLDER)])
def test_nothing_is_said_of_memory_where_nothing_was_killed_for_it(site, monkeypatch, tmp_path, counter, text):
    count(monkeypatch, tmp_path, counter, text.format(0))
    assert (memory.kills(site, "blue"), memory.lack(site, "blue")) == (0, "")


@pytest.mark.parametrize(
    "said",
    [
        "forge@blue.service: A process of this unit has been killed by the OOM killer.",
        "forge@blue.service: Failed with result 'oom-kill'.",
    ],
)
def test_systemd_tells_of_a_unit_that_has_ended(site, said):
    site.said += said
    assert memory.lack(site, "blue").startswith("a process of it was killed for memory (")
    assert memory.lack_of_command(site, "forge-release.service", 0).startswith("it was killed for memory (")


def test_a_host_that_has_no_memory_left_is_told_from_a_limit(site):
    site.shown["MemoryMax"] = "infinity"
    site.said = "forge@blue.service: Failed with result 'oom-kill'."
    assert "gunicorn_app_memory_megabytes sets no limit: the host itself had none left" in memory.lack(site, "blue")


@pytest.mark.parametrize(
    ("said", "begin"),
    [
        ("Main process exited, code=killed, status=9/KILL\nFailed with result 'signal'.", "it was killed, most likely"),
        ("Main process exited, code=exited, status=137/n/a\nFailed with result 'exit-code'.", "it was killed, most"),
        ("Main process exited, code=killed, status=9/KILL\nFailed with result 'timeout'.", ""),
        ("Main process exited, code=exited, status=1/FAILURE\nFailed with result 'exit-code'.", ""),
    ],
)
def test_a_command_that_was_killed_is_told_from_one_that_failed_or_took_too_long(site, said, begin):
    site.said = said
    found = memory.lack_of_command(site, "forge-release.service", 0)
    assert found.startswith(begin) if begin else found == ""


def test_the_limit_is_that_of_the_slot_which_was_killed(site):
    site.said = "forge@green.service: Failed with result 'oom-kill'."
    memory.lack(site, "green")
    assert set(site.asked) == {"forge@green.service"}
