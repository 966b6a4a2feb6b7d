"""Flags that the web server and the site look for; the database is tested on a real host."""

from __future__ import annotations

import socket
import time
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


class Server:
    """A server that reads its settings when it is told to, and may miss the file with one of them."""

    def __init__(self, file: Path, reads: bool):
        self.file, self.reads, self.loaded, self.read_only = file, reads, 0.0, False

    def run(self, sql: str) -> str:
        if "pg_reload_conf" in sql:
            self.loaded = time.time() + 1
            self.read_only = self.reads and self.file.read_text() != ""
            return "t\n"
        if "pg_file_settings" in sql:
            return f"{int(self.read_only)}\n"
        return "t\n" if self.loaded >= float(sql.rpartition("(")[2].rstrip(");")) else "f\n"


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Function that has the host have a server, and returns it."""

    def have(reads: bool = True) -> Server:
        server = Server(tmp_path / "passing" / "postgres.conf", reads)
        monkeypatch.setattr(maintenance, "DATABASE", str(server.file))
        monkeypatch.setattr(maintenance, "server_of", lambda _database: server)
        return server

    return have


def test_a_server_takes_nothing_until_it_is_let(database):
    server = database()
    for read_only in (True, False):
        assert maintenance.set_server({}, read_only, True) != ""
        assert maintenance.set_server({}, read_only, False) != ""
        assert server.read_only is read_only
        assert maintenance.set_server({}, read_only, False) == ""
    assert not server.file.exists()


@pytest.mark.parametrize("read_only", [True, False])
def test_what_a_lost_run_has_written_and_nobody_has_read_is_read(database, read_only):
    server = database()
    server.file.parent.mkdir()
    server.file.write_text(maintenance.SETTING if read_only else "")
    server.read_only = not read_only
    assert maintenance.set_server({}, read_only, False) != ""
    assert server.read_only is read_only


def test_a_server_that_does_not_look_there_is_no_read_only_one(database):
    server = database(reads=False)
    with pytest.raises(Refusal, match="apply the whole site first"):
        maintenance.set_server({}, True, False)
    assert not server.read_only


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


def test_a_pool_whose_server_is_replaced_begins_anew_after_that(pool):
    maintenance.renew_pool(pool, False, False)
    assert maintenance.forget_pool(pool, False) != ""
    assert maintenance.forget_pool(pool, False) == ""
    assert maintenance.renew_pool(pool, False, False) != ""


def test_a_pool_that_refuses_is_asked_again(pool, monkeypatch):
    monkeypatch.setattr(maintenance, "run", lambda command, timeout: (2, "", "it is shutting down"))
    for _ in range(2):
        with pytest.raises(Refusal, match="did not replace its connections: it is shutting down"):
            maintenance.renew_pool(pool, True, False)


def test_a_pool_that_does_not_run_has_no_connections(pool, tmp_path):
    (tmp_path / ".s.PGSQL.5432").unlink()
    assert maintenance.renew_pool(pool, True, False) == ""
    assert pool["told"] == []
