"""What the module says of a unit's end, with a systemd that only pretends; molecule has the real one."""

import json

import pytest
from ansible_collections.groundwork.django.plugins.modules import program


class Ended(Exception):
    """How the module has ended."""


@pytest.fixture
def play(monkeypatch):
    """Function that runs the module with a journal and an exit status; returns how it ended and what it started."""

    def run_module(journal, status=0, state="inactive", check_mode=False, **options):
        started = []

        class Module:
            params = {"command": [], "changes": True, **options}

            def __init__(self, **_arguments):
                self.check_mode = check_mode

            def exit_json(self, **result):
                raise Ended(result)

            def fail_json(self, msg):
                raise Ended(msg)

        def run(command):
            if command[:2] in (["systemctl", "start"], ["systemd-run", "--quiet"]):
                started.append(command)
                return status, "", "Job failed."
            if "is-active" in command:
                return 0, f"{state}\n", ""
            if any(word.startswith("UNIT=") for word in command):
                return 0, json.dumps({"INVOCATION_ID": "abc"}), ""
            if "_SYSTEMD_INVOCATION_ID=abc" in command:
                return 0, "\n".join(json.dumps({"PRIORITY": str(n), "MESSAGE": text}) for n, text in journal), ""
            return 0, "", ""

        monkeypatch.setattr(program, "AnsibleModule", Module)
        monkeypatch.setattr(program, "run", run)
        with pytest.raises(Ended) as caught:
            program.main()
        return caught.value.args[0], started

    return run_module


def test_it_returns_what_the_program_said(play):
    result, [command] = play([(6, "one"), (6, "two")], unit="a.service")
    assert result == {"changed": True, "said": ["one", "two"]}
    assert command == ["systemctl", "start", "a.service"]


def test_a_failure_is_the_sentence_of_the_program(play):
    result, _started = play([(6, "begun"), (3, "The disk is full.")], status=1, unit="a.service")
    assert result == "The disk is full."


def test_a_program_that_dies_without_a_word_is_told_by_its_unit(play):
    result, _started = play([(6, "begun")], status=1, unit="a.service")
    assert result == "a.service failed: Job failed."


def test_check_mode_runs_only_what_changes_nothing(play):
    result, started = play([], check_mode=True, unit="a.service")
    assert result == {"changed": True} and started == []
    result, started = play([(6, "a plan")], check_mode=True, changes=False, unit="a.service", command=["/bin/plan"])
    assert result == {"changed": False, "said": ["a plan"]} and started[0][-1] == "/bin/plan"


def test_a_run_that_is_still_at_work_is_not_begun_twice(play):
    result, started = play([], state="activating", unit="a.service", command=["/bin/restore"])
    assert "still at work" in result and started == []
