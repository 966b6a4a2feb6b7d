"""Commands of units: what systemd makes of them is what was written."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.groundwork.django.plugins.filter.process_units import process_units
from ansible_collections.groundwork.django.plugins.filter.systemd_command import systemd_command
from ansible_collections.groundwork.django.plugins.filter.timer_units import timer_units


def test_words_are_quoted_and_nothing_is_replaced():
    assert systemd_command(["a b", '"', "\\", "$HOME", "%n", ";"]) == r'"a b" "\"" "\\" "$$HOME" "%%n" ";"'


@pytest.mark.parametrize("words", ["celery worker", [], [1], ["a\nb"], None])
def test_what_is_no_command_is_refused(words):
    with pytest.raises(AnsibleFilterError, match="systemd_command takes"):
        systemd_command(words)


def test_each_number_of_a_process_is_a_unit_that_the_release_restarts():
    units = process_units([{"name": "worker", "count": 2}, {"name": "beat"}], "forge", "/srv/forge/live/env")
    names = ["worker@1", "worker@2", "beat@1"]
    assert [unit["name"] for unit in units] == [f"forge-process-{name}.service" for name in names]
    assert all("/srv/forge/live/env" in unit["restart_on"] for unit in units)


def test_timers_are_started_anew_when_their_schedule_changes():
    name = "forge-timer-clearsessions.timer"
    unit = {"name": name, "restart_on": [f"/etc/systemd/system/{name}"]}
    assert timer_units([{"name": "clearsessions"}], "forge") == [unit]
