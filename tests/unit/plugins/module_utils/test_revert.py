"""What decides who gets in is put back as it was, whatever has happened to it meanwhile."""

import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import confirm, revert
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.ssh_login import Login


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Directories that stand for those of a host, with a timer that only notes what is done to it."""
    etc, kernel = tmp_path / "etc", tmp_path / "proc"
    (etc / "drop-ins").mkdir(parents=True)
    (etc / "sysctl.d").mkdir()
    (etc / "main").write_text("Port 22\n")
    (etc / "drop-ins" / "a").write_text("a\n")
    (kernel / "net" / "ipv4" / "conf" / "eth0.5").mkdir(parents=True)
    (kernel / "net" / "ipv4" / "tcp_syncookies").write_text("1\n")
    (kernel / "net" / "ipv4" / "conf" / "eth0.5" / "rp_filter").write_text("2\n")
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(revert, "DIRECTORY", str(tmp_path / "revert"))
    monkeypatch.setattr(revert, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(revert, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(revert, "SYSCTL", str(kernel))
    paths = {
        "sshd": [str(etc / "main"), str(etc / "drop-ins")],
        "sysctl": [str(etc / "sysctl.d")],
        "ufw": [str(etc / "ufw")],
        "records": [str(etc / "manifest")],
    }
    monkeypatch.setattr(revert, "PATHS", paths)
    read_anew = []
    monkeypatch.setattr(revert, "REREAD", {"sshd": lambda: read_anew.append("sshd")})
    monkeypatch.setattr(revert, "_run", lambda *_command: None)
    monkeypatch.setattr(confirm, "run", lambda _command: (0, "", ""))
    return tmp_path, read_anew


def change(path):
    """What a change may do: other content, a new file, a file and a directory less."""
    (path / "etc/main").write_text("Port 2222\n")
    (path / "etc/drop-ins/a").unlink()
    (path / "etc/drop-ins/b").write_text("b\n")


def is_as_before(path):
    return (
        (path / "etc/main").read_text() == "Port 22\n"
        and (path / "etc/drop-ins/a").read_text() == "a\n"
        and os.listdir(path / "etc/drop-ins") == ["a"]
    )


def is_clean(path):
    return not (path / "revert").exists() and [p for p in (path / "units").rglob("*") if not p.is_dir()] == []


def test_everything_is_put_back_and_nothing_is_left(host):
    path, read_anew = host
    (path / "etc/main").chmod(0o640)
    confirm.arm(60)
    change(path)
    (path / "etc/main").chmod(0o644)
    done, told = revert.put_back(at_once=True)
    assert done
    assert told == ["sshd was not confirmed by a new connection, and is put back."]
    assert is_as_before(path)
    assert (path / "etc/main").stat().st_mode & 0o777 == 0o640
    assert read_anew == ["sshd"]
    assert is_clean(path)
    assert revert.put_back(at_once=True) == (True, [])


def test_a_directory_that_was_not_there_is_gone_again_and_one_that_is_gone_comes_back(host):
    path, _ = host
    confirm.arm(60)
    (path / "etc/manifest").mkdir()
    (path / "etc/manifest/x").write_text("x\n")
    (path / "etc/drop-ins/a").unlink()
    (path / "etc/drop-ins").rmdir()
    revert.put_back(at_once=True)
    assert is_as_before(path)
    assert not (path / "etc/manifest").exists()


def test_a_package_that_was_installed_meanwhile_is_left_and_guarded_from_then_on(host):
    path, _ = host
    confirm.arm(60)
    (path / "etc/ufw").mkdir()
    (path / "etc/ufw/ufw.conf").write_text("ENABLED=no\n")
    confirm.arm(60)
    (path / "etc/ufw/ufw.conf").write_text("ENABLED=yes\n")
    revert.put_back(at_once=True)
    assert (path / "etc/ufw/ufw.conf").read_text() == "ENABLED=no\n"
    confirm.arm(60)
    (path / "etc/ufw/ufw.conf").unlink()
    confirm.disarm()
    (path / "etc/ufw").rmdir()
    confirm.arm(60)
    (path / "etc/ufw").mkdir()
    revert.put_back(at_once=True)
    assert (path / "etc/ufw").exists()


def test_what_has_not_changed_is_not_read_anew(host):
    path, read_anew = host
    confirm.arm(60)
    assert revert.put_back(at_once=True) == (True, [])
    assert read_anew == []
    assert is_clean(path)


def test_what_is_confirmed_stays(host):
    path, _ = host
    confirm.arm(60)
    change(path)
    assert confirm.disarm()
    assert is_clean(path)
    assert not confirm.disarm()
    assert revert.put_back(at_once=True) == (True, [])
    assert (path / "etc/main").read_text() == "Port 2222\n"


def test_armed_twice_it_goes_back_to_the_first_and_the_time_begins_anew(host):
    path, _ = host
    confirm.arm(1)
    change(path)
    confirm.arm(600)
    assert revert.put_back(at_once=False) == (True, [])
    assert confirm.is_armed(), "the timer of the first one comes too early"
    revert.put_back(at_once=True)
    assert is_as_before(path)


@pytest.mark.parametrize(("name", "value"), [("boot_id", "another"), ("deadline", 0)])
def test_when_the_time_is_over_or_the_machine_was_started_anew(host, name, value):
    path, _ = host
    confirm.arm(600)
    change(path)
    revert.write_state({**revert.read_state(), name: value})
    revert.put_back(at_once=False)
    assert is_as_before(path)


def test_who_had_come_in_before_is_not_banned_for_the_tries_since(host, monkeypatch):
    path, _ = host
    said = []
    monkeypatch.setattr(revert, "_run", lambda *command: said.append(command))
    monkeypatch.setattr(revert, "FAIL2BAN", str(path / "etc/main"))
    monkeypatch.setattr(confirm, "ssh_login", lambda: Login("root", 22, "192.0.2.1"))
    confirm.arm(60)
    change(path)
    revert.put_back(at_once=True)
    assert (str(path / "etc/main"), "unban", "192.0.2.1") in said


def test_an_attempt_that_fails_is_made_again_and_given_up_in_the_end(host, monkeypatch):
    path, _ = host
    attempts = []

    def fails():
        attempts.append(1)
        raise OSError("systemctl: no answer")

    monkeypatch.setattr(revert, "REREAD", {"sshd": fails})
    confirm.arm(60)
    change(path)
    assert revert.put_back(at_once=True) == (False, ["sshd cannot be put back yet: systemctl: no answer"])
    assert is_as_before(path)
    for _ in range(revert.ATTEMPTS - 1):
        done, told = revert.put_back(at_once=True)
    assert done
    assert "Given up" in told[-1]
    assert len(attempts) == revert.ATTEMPTS
    assert is_clean(path)


def test_values_of_the_kernel_that_the_change_has_set_are_put_back_and_no_others(host):
    path, _ = host
    kernel = path / "proc/net/ipv4"
    confirm.arm(60)
    (path / "etc/sysctl.d/x.conf").write_text("; no\n-net.ipv4.conf.*.rp_filter = 0\n")
    (kernel / "conf/eth0.5/rp_filter").write_text("0\n")
    (kernel / "tcp_syncookies").write_text("0\n")
    revert.put_back(at_once=True)
    assert (kernel / "conf/eth0.5/rp_filter").read_text() == "2\n"
    assert (kernel / "tcp_syncookies").read_text() == "0\n"


@pytest.mark.parametrize("name", ["net.ipv4.conf.eth0/5.rp_filter", "net/ipv4/conf/eth0.5/rp_filter"])
def test_names_of_values_have_two_forms(host, name):
    path, _ = host
    (path / "etc/x.conf").write_text(f"{name}=1\n")
    found = revert.set_values(revert.look_below([str(path / "etc/x.conf")]))
    assert found == {str(path / "proc/net/ipv4/conf/eth0.5/rp_filter")}


def test_where_the_timer_cannot_be_started_nothing_is_armed(host, monkeypatch):
    path, _ = host
    monkeypatch.setattr(confirm, "run", lambda _command: (1, "", "no bus"))
    with pytest.raises(Refusal, match=r"Nothing was changed, because the timer .* cannot be started: no bus"):
        confirm.arm(60)
    assert is_clean(path)


def test_the_state_is_kept_from_others(host):
    path, _ = host
    confirm.arm(60)
    assert (path / "revert").stat().st_mode & 0o777 == 0o700
    assert json.loads((path / "revert/state.json").read_text())["deadline"] > revert.now()


def test_the_copy_on_the_host_runs_by_itself(host):
    """It is started as the unit starts it, and needs nothing of the collection."""
    path, _ = host
    confirm.arm(60)
    program = (path / "revert/revert.py").read_text()
    for name in ("DIRECTORY", "LOCK", "UNITS"):
        program = re.sub(
            rf'^{name} = ".*"$', f'{name} = "{getattr(revert, name)}"', program, count=1, flags=re.MULTILINE
        )
    # No systemctl is called: it is this machine that would hear.
    program = program.replace("def _run(*command: str) -> None:\n", "def _run(*command: str) -> None:\n    return\n")
    (path / "program.py").write_text(program)
    change(path)
    revert.write_state({**revert.read_state(), "deadline": 0})
    done = subprocess.run([sys.executable, "-I", path / "program.py"], capture_output=True, text=True, check=False)
    assert is_as_before(path)
    assert done.stdout == "sshd was not confirmed by a new connection, and is put back.\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert is_clean(path)


def test_sshd_answers():
    server = socket.create_server(("127.0.0.1", 0))

    def greet():
        connection, _ = server.accept()
        connection.sendall(b"SSH-2.0-x\r\n")
        connection.close()

    threading.Thread(target=greet, daemon=True).start()
    port = server.getsockname()[1]
    assert confirm.answers(port, patience=5)
    server.close()
    assert not confirm.answers(port, patience=0)
