"""The package module: what is missing, who holds a lock, and daemons that are held back whatever happens."""

import os
import subprocess
import sys
import time

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import packages

DPKG = (
    "acl\tamd64\tinstalled\t2.3.2-2\t\n"
    "exim4\tamd64\tinstalled\t4.98\tdefault-mta (= 4.98), mail-transport-agent\n"
    "gone\tall\tconfig-files\t1\t\n"
    "half\tamd64\tunpacked\t1\t\n"
)


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Path of the policy file; the copy that is kept of it lies beside."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", str(path))
    monkeypatch.setattr(packages, "KEPT_POLICY", f"{path}.kept")
    return path


def own(path, text="#!/bin/sh\nexit 104\n"):
    """Make a policy of the operator."""
    path.write_text(text)
    path.chmod(0o755)
    return text


def stale():
    """The policy of a process that is gone."""
    return packages.policy_text(2**22 + 1, "1")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["acl", "exim4"], []),
        (["acl:amd64", "mail-transport-agent"], []),
        (["acl=2.3.2-2"], []),
        (["acl=2.4"], ["acl=2.4"]),
        (["gone", "half", "other"], ["gone", "half", "other"]),
        (["msmtp-mta | mail-transport-agent", "other | acl"], []),
        (["msmtp-mta | gone", "acl=2.4 | other"], ["msmtp-mta", "acl=2.4"]),
    ],
)
def test_missing_packages(names, missing):
    versions, unfinished = packages.installed_packages(DPKG)
    assert packages.missing_packages(names, versions) == missing
    assert unfinished == {"half"}


@pytest.mark.parametrize(
    "name", ["Acl", "-o", "a", "a b", "--purge", "acl=1 2", "acl;reboot", "acl |", "a|b", "acl | --purge"]
)
def test_what_is_no_name(name):
    assert not packages.NAME.match(name)


def test_daemons_are_held_back_and_let_go(policy):
    packages.hold_daemons()
    assert packages.policy_holder(policy.read_text()) == os.getpid()
    assert not packages.policy_is_stale()
    assert subprocess.run([policy, "none-such", "start"], check=False).returncode == 101
    assert subprocess.run([policy, "none-such.timer", "start"], check=False).returncode == 0
    packages.release_daemons()
    assert not policy.exists()


def test_a_policy_of_a_dead_process_has_no_effect(policy):
    own(policy, stale())
    assert packages.policy_is_stale()
    assert subprocess.run([policy, "none-such", "start"], check=False).returncode == 0


def test_a_policy_of_the_operator_is_asked_and_put_back(policy):
    text = own(policy)
    packages.hold_daemons()
    assert subprocess.run([policy, "none-such.timer", "start"], check=False).returncode == 104
    packages.release_daemons()
    assert policy.read_text() == text
    assert sorted(os.listdir(policy.parent)) == [policy.name]


def test_a_link_of_the_operator_is_put_back_as_a_link(policy):
    own(policy.parent / "real")
    policy.symlink_to("real")
    packages.hold_daemons()
    assert not policy.is_symlink()
    packages.release_daemons()
    assert os.readlink(policy) == "real"


def test_killed_after_the_copy_was_made(policy):
    text = own(policy)
    (policy.parent / f"{policy.name}.kept").write_text(text)
    assert packages.policy_is_stale()
    packages.release_daemons()
    assert policy.read_text() == text
    assert not packages.policy_is_stale()


def test_killed_while_daemons_were_held_back(policy):
    text = own(policy)
    packages.hold_daemons()
    policy.write_text(stale())
    assert packages.policy_is_stale()
    packages.hold_daemons()
    packages.release_daemons()
    assert policy.read_text() == text


def test_the_holder_of_a_lock_is_named(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    assert packages.lock_holder((str(path), str(tmp_path / "none"))) is None
    program = (
        f"import fcntl, time; lock = open({str(path)!r}, 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
        "print(1, flush=True); time.sleep(9)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert packages.lock_holder((str(path),)) == (process.pid, str(path))
        assert packages.command_of(process.pid).startswith(sys.executable)
        process.kill()


def test_waiting_for_a_lock_ends_with_a_sentence(policy, monkeypatch):
    monkeypatch.setattr(packages, "lock_holder", lambda: (os.getpid(), "/var/lib/dpkg/lock"))
    with pytest.raises(
        Refusal, match=rf"/var/lib/dpkg/lock is still held by process {os.getpid()} \(.*after 7 seconds"
    ):
        packages.wait_for_lock(time.monotonic() - 1, 7)


def test_cloud_init_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "CLOUD_INIT", str(tmp_path))
    packages.wait_for_cloud_init(0)
    (tmp_path / "enabled").touch()
    with pytest.raises(Refusal, match="cloud-init has not finished"):
        packages.wait_for_cloud_init(-1)
    (tmp_path / "result.json").touch()
    packages.wait_for_cloud_init(-1)


def test_lists_are_updated_when_there_are_none_or_they_are_old(tmp_path, monkeypatch):
    sources = tmp_path / "sources.list"
    sources.touch()
    os.utime(sources, (1, 1))
    lists = tmp_path / "lists"
    monkeypatch.setattr(packages, "LISTS", str(lists))
    monkeypatch.setattr(packages, "SOURCES", (str(sources),))
    assert packages.lists_are_old(6)
    (lists / "partial").mkdir(parents=True)
    assert packages.lists_are_old(6)
    (lists / "mirror_dists_trixie_main_binary-amd64_Packages").touch()
    assert not packages.lists_are_old(6)
    assert packages.lists_are_old(0)
    os.utime(sources, (time.time() + 60, time.time() + 60))
    assert packages.lists_are_old(6), "a source came after the update"


class Host:
    """Stands for apt and dpkg: remembers what is run, and fails as told."""

    def __init__(self, monkeypatch, answers=(), installed="", after=None):
        self.ran = []
        self.answers = list(answers)
        self.installed = [installed, after if after is not None else installed]
        monkeypatch.setattr(packages, "run_merged", self.run)
        monkeypatch.setattr(packages, "lock_holder", lambda: None)
        monkeypatch.setattr(packages, "lists_are_old", lambda _hours: False)

    def run(self, command, **_environment):
        if command[0] == "dpkg-query":
            return 0, self.installed[0] if len(self.ran) == 0 else self.installed[1]
        words = [word for word in command if not word.startswith("--option") and word not in packages.INSTALL[1:]]
        self.ran.append(" ".join(words))
        return self.answers.pop(0) if self.answers else (0, "")


def test_an_unknown_package_updates_the_lists_once(policy, monkeypatch):
    unknown = (100, "E: Unable to locate package acl\n")
    host = Host(monkeypatch, [unknown, (0, ""), (0, "")], after=DPKG.splitlines()[0] + "\n")
    assert packages.install(["acl"], 6, 10) == []
    assert host.ran == ["apt-get install -- acl", "apt-get update", "apt-get install -- acl"]
    assert not policy.exists()


def test_a_failure_is_one_sentence_and_leaves_no_policy(policy, monkeypatch):
    Host(monkeypatch, [(100, "Reading...\nE: No space left on device\n")])
    with pytest.raises(Refusal, match=r"acl cannot be installed: E: No space left on device"):
        packages.install(["acl"], 6, 10)
    assert not policy.exists()


def test_what_is_unfinished_is_finished_first(policy, monkeypatch):
    host = Host(monkeypatch, installed=DPKG, after=DPKG.splitlines()[0] + "\n")
    assert packages.install(["acl"], 6, 10) == ["dpkg was interrupted"]
    assert host.ran == ["dpkg --configure --pending --force-confdef --force-confold"]


def test_what_was_cut_off_while_it_was_unpacked_is_fetched_again(policy, monkeypatch):
    cut = "acl\tamd64\thalf-installed\t1\t\n"
    host = Host(monkeypatch, installed=cut, after=cut)
    with pytest.raises(Refusal, match="cannot be finished"):
        packages.install(["acl"], 6, 10)
    assert host.ran[1] == "apt-get install --fix-broken"


def test_another_process_that_was_faster_is_waited_for(policy, monkeypatch):
    monkeypatch.setattr(packages.time, "sleep", lambda _seconds: None)
    locked = (100, "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7\n")
    host = Host(monkeypatch, [locked, (0, "")], after=DPKG.splitlines()[0] + "\n")
    packages.install(["acl"], 6, 10)
    assert len(host.ran) == 2
