"""Flags that the web server and the site look for; the database is tested on a real host."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import maintenance


def test_a_flag_is_made_and_removed_once(tmp_path):
    flag = tmp_path / "read_only"
    assert maintenance.set_flag(str(flag), True, False) == f"make {flag}"
    assert flag.is_file()
    assert maintenance.set_flag(str(flag), True, False) == ""
    assert maintenance.set_flag(str(flag), False, False) == f"remove {flag}"
    assert not flag.exists()
    assert maintenance.set_flag(str(flag), False, False) == ""


def test_a_flag_in_passing_is_gone_when_the_host_has_been_started_again(tmp_path, monkeypatch):
    flag, closed = tmp_path / "read_only", tmp_path / "run" / "closed"
    monkeypatch.setattr(maintenance, "CLOSED", str(closed))
    for _start in range(2):
        assert maintenance.set_flag(str(flag), True, False, passing=True) == f"make {flag}"
        assert flag.is_file()
        assert maintenance.set_flag(str(flag), True, False, passing=True) == ""
        closed.unlink()
        assert not flag.exists()
    assert maintenance.set_flag(str(flag), False, False) == f"remove {flag}"
    assert not flag.is_symlink()


def test_a_flag_in_passing_becomes_one_that_stays(tmp_path, monkeypatch):
    flag, closed = tmp_path / "read_only", tmp_path / "run" / "closed"
    monkeypatch.setattr(maintenance, "CLOSED", str(closed))
    maintenance.set_flag(str(flag), True, False, passing=True)
    assert maintenance.set_flag(str(flag), True, False) == f"make {flag}"
    closed.unlink()
    assert flag.is_file()


def test_check_mode_says_the_same_and_does_nothing(tmp_path):
    flag = tmp_path / "read_only"
    assert maintenance.set_flag(str(flag), True, True) == f"make {flag}"
    assert not flag.exists()


def test_a_site_that_is_not_there_is_not_closed():
    missing = Path("/nowhere/at/all/read_only")
    with pytest.raises(Refusal, match="is not on the host: apply the whole site once first"):
        maintenance.set_flag(str(missing), True, False)
    assert maintenance.set_flag(str(missing), False, False) == ""


@pytest.fixture
def pool(tmp_path, monkeypatch) -> dict:
    """A pool with a socket; what it is told is in `told`."""
    told: list[str] = []

    def run(command, timeout):
        told.append(command[-1])
        return 0, "", ""

    monkeypatch.setattr(maintenance, "run", run)
    # The path of a socket must be short.
    monkeypatch.chdir(tmp_path)
    socket.socket(socket.AF_UNIX).bind(".s.PGSQL.5432")
    return {
        "socket_directory": str(tmp_path),
        "user": "forge",
        "stamp": str(tmp_path / "pools" / "forge"),
        "told": told,
    }


def test_a_pool_begins_anew_once_for_each_change(pool):
    for read_only in (False, True, False):
        assert maintenance.renew_pool(pool, read_only, True) != ""
        assert maintenance.renew_pool(pool, read_only, False) != ""
        assert maintenance.renew_pool(pool, read_only, False) == ""
    assert pool["told"] == ["--command=RECONNECT"] * 3


def test_a_pool_that_refuses_is_asked_again(pool, monkeypatch):
    monkeypatch.setattr(maintenance, "run", lambda command, timeout: (2, "", "it is shutting down"))
    for _ in range(2):
        with pytest.raises(Refusal, match="did not replace its connections: it is shutting down"):
            maintenance.renew_pool(pool, True, False)


def test_a_pool_that_does_not_run_has_no_connections(pool, tmp_path):
    (tmp_path / ".s.PGSQL.5432").unlink()
    assert maintenance.renew_pool(pool, True, False) == ""
    assert pool["told"] == []
