"""Who logged in, and to which port: read from the processes of the kernel."""

import os

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import ssh_login


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Function that makes the ancestors of this process, nearest first, as (name, environment)."""
    monkeypatch.setattr(ssh_login, "PROC", str(tmp_path))
    monkeypatch.setattr(ssh_login, "owner_of", lambda pid: f"owner of {pid}")

    def make(*ancestors):
        numbers = [os.getpid(), *range(100, 100 + len(ancestors) - 1)]
        for number, parent, (name, environment) in zip(numbers, [*numbers[1:], 1], ancestors, strict=True):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "comm").write_text(f"{name}\n")
            (folder / "stat").write_text(f"{number} ({name} x) S {parent} 0 0")
            (folder / "environ").write_text(environment.replace(" | ", "\0"))

    return make


def test_the_user_of_the_session_counts_through_sudo(processes):
    processes(
        ("python3", "PATH=/bin"),
        ("sudo", "PATH=/bin"),
        ("sh", "USER=op | SSH_CONNECTION=192.0.2.1 50000 198.51.100.1 2222"),
        ("sshd-session", ""),
        ("sshd", ""),
    )
    assert ssh_login.ssh_login() == ("owner of 102", 2222, "192.0.2.1")


def test_no_login(processes):
    processes(("python3", ""), ("bash", "SSH_CONNECTION=broken"))
    assert ssh_login.ssh_login() is None


def test_a_process_that_is_gone(processes):
    assert ssh_login.ssh_login() is None


def test_this_process_itself():
    assert ssh_login.parent_of(os.getpid()) == os.getppid()
    assert ssh_login.environment_of(os.getpid())["PATH"]
