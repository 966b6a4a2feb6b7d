"""Commands of the host: what comes back of them, and what they are given."""

import sys

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.commands import (
    MISSING,
    TIMED_OUT,
    run,
    run_merged,
    sync_file_system,
)
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

SPEAK = "import sys; print('out'); sys.stdout.flush(); print('bad', file=sys.stderr); sys.exit(3)"


def test_output_and_errors_come_apart_or_in_order():
    assert run([sys.executable, "-c", SPEAK]) == (3, "out\n", "bad\n")
    assert run_merged([sys.executable, "-c", SPEAK]) == (3, "out\nbad\n")


def test_a_command_that_cannot_be_run_says_why(tmp_path):
    assert run(["no-such-command"]) == (MISSING, "", "no-such-command is not installed")
    assert run_merged(["no-such-command"]) == (MISSING, "no-such-command is not installed")
    assert run([str(tmp_path)])[::2] == (MISSING, f"{tmp_path} cannot be run: Permission denied")


def test_a_command_that_takes_too_long_is_killed():
    assert run(["sleep", "5"], timeout=0.1) == (TIMED_OUT, "", "sleep did not end within 0.1 s")


def test_the_language_and_the_path_are_fixed(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("OWN", "1")
    show = ["sh", "-c", 'echo "$LC_ALL $OWN $GIVEN $(pwd)"']
    assert run(show, GIVEN="2")[1] == "C.UTF-8 1 2 /\n"
    assert run(show, inherited={})[1] == "C.UTF-8   /\n"


@pytest.mark.parametrize("given", [None, "", "text\n"])
def test_it_never_waits_for_input(given):
    assert run(["cat"], given=given)[1] == (given or "")


def test_what_the_disk_does_not_keep_is_not_called_complete(tmp_path):
    sync_file_system(str(tmp_path))
    with pytest.raises(Refusal, match=r"^The disk does not keep what was written to /no/such: .*No such file.*\.$"):
        sync_file_system("/no/such")
