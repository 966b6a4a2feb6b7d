"""What the role base keeps from those who are on the host already, and from those who guess passwords."""

import re
import shlex

import pytest

GUEST, PASSWORD = "guest", "a-long-and-unusual-sentence-7"


def root(host, command):
    """Output of a command that root runs."""
    return host.check_output(command)


def become(host, name, password):
    """Whether a stranger becomes a user by a password."""
    return host.run(f"echo {shlex.quote(password)} | runuser -u nobody -- su {name} -c true").rc == 0


@pytest.fixture
def guest(host):
    """A user with a password, and none of it left at the end."""
    root(host, f"useradd --create-home --shell /bin/bash {GUEST} && echo {GUEST}:{PASSWORD} | chpasswd")
    yield GUEST
    host.run(f"faillock --user {GUEST} --reset; userdel --remove {GUEST}")


@pytest.fixture
def modprobe(host):
    """The program that loads modules, which a container does not have."""
    root(host, "apt-get install -y -q kmod")
    yield "modprobe"
    root(host, "apt-get purge -y -q kmod")


def test_files_of_a_login_are_not_for_others(host, guest):
    for login in (f"su - {guest} -c", "su - root -c"):
        assert root(host, f"{login} umask")[-1] == "7"
    assert root(host, "systemd-run --quiet --pipe --wait sh -c umask") == "0022", "services have what they had"


def test_users_leave_no_core_dump(host, guest):
    for name in (guest, "root"):
        assert root(host, f"su - {name} -c 'ulimit -H -c'") == "0"
    assert "kernel.core_pattern = |/bin/false" in host.file("/etc/sysctl.d/90-groundwork.conf").content_string
    assert "DefaultLimitCORE=0" in root(host, "systemd-analyze cat-config systemd/system.conf")


@pytest.mark.parametrize(
    ("password", "said"),
    [("kurz-17%", "shorter than 14"), ("correcthorse12", None), ("password123456", "dictionary")],
)
def test_a_weak_password_is_refused(host, guest, password, said):
    answers = shlex.quote(f"{PASSWORD}\n{password}\n{password}\n")
    result = host.run(f"printf %s {answers} | runuser -u {guest} -- passwd")
    assert (result.rc == 0) is (said is None), result.stderr
    assert said is None or said in result.stdout + result.stderr
    assert become(host, guest, password) is (said is None)


def test_too_many_wrong_passwords_lock_a_user_but_neither_root_nor_those_with_a_key(host, guest):
    shadow = root(host, "grep ^root: /etc/shadow")
    root(host, f"echo root:{PASSWORD} | chpasswd")
    try:
        assert become(host, guest, PASSWORD)
        for name in (guest, "root"):
            assert not any(become(host, name, "wrong") for _try in range(5))
        assert not become(host, guest, PASSWORD), "locked"
        assert become(host, "root", PASSWORD), "never locked"
        assert root(host, f"su {guest} -c whoami") == guest, "what needs no password goes on"
        root(host, f"faillock --user {guest} --reset")
        assert become(host, guest, PASSWORD)
    finally:
        line = shadow.split(":")
        root(host, f"usermod -p {shlex.quote(line[1])} root; faillock --user root --reset")


def test_a_locked_user_logs_in_by_key(host, guest):
    home = f"/home/{guest}"
    root(host, f"install -d -m 0700 -o {guest} -g {guest} {home}/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/k")
    root(host, f"install -m 0600 -o {guest} -g {guest} /root/k.pub {home}/.ssh/authorized_keys")
    root(host, "install -d -m 0755 /run/sshd && ssh-keygen -A && /usr/sbin/sshd -p 2222 -o PidFile=/run/test-sshd.pid")
    try:
        assert not any(become(host, guest, "wrong") for _try in range(6))
        options = "-p 2222 -i /root/k -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        assert host.run(f"ssh {options} {guest}@localhost id -un").stdout.strip() == guest
    finally:
        root(host, "kill $(cat /run/test-sshd.pid); rm -f /root/k /root/k.pub")


def test_a_prompt_that_nobody_sits_at_is_logged_out(host, guest):
    assert root(host, f"su - {guest} -c 'echo $TMOUT'") == "3600"
    assert host.run(f"su - {guest} -c 'TMOUT=0'").failed, "nobody takes that off for themselves"


def test_a_shell_without_limits_leaves_no_core_dumps(host):
    assert root(host, "ulimit -c unlimited && sh -lc 'ulimit -c'") == "0"


def test_what_is_run_by_sudo_is_listed_for_root_only(host):
    root(host, "sudo -u operator sudo -n true marker-of-the-test")
    log = host.file("/var/log/sudo.log")
    assert re.search(r"operator :[^:]*USER=root ; COMMAND=/usr/bin/true\s+marker-of-the-test", log.content_string)
    assert log.mode == 0o600


def test_only_root_makes_cron_jobs(host, guest):
    refused = host.run(f"runuser -u {guest} -- crontab -l")
    assert refused.rc != 0
    assert "not allowed" in refused.stdout + refused.stderr
    assert "no crontab for root" in host.run("crontab -l").stderr
    assert host.run(f"runuser -u {guest} -- ls /etc/cron.d").rc != 0


def test_seldom_modules_are_never_loaded(host, modprobe):
    for name in ("dccp", "usb-storage"):
        assert host.run(f"{modprobe} --showconfig | grep -x 'install {name.replace('-', '_')} /bin/false'").rc == 0
    assert root(host, f"{modprobe} --showconfig | grep -c '^blacklist rds$'") == "1"


def test_no_program_is_run_from_shared_memory(host):
    # The container was started with that already.
    root(host, "mount -o remount,exec /dev/shm && systemctl restart groundwork-shm")
    root(host, "install -m 0755 /bin/true /dev/shm/test-program")
    assert host.run("/dev/shm/test-program").rc == 126
    root(host, "rm /dev/shm/test-program")
    options = root(host, "findmnt -n -o OPTIONS /dev/shm").split(",")
    assert {"nosuid", "nodev", "noexec"} <= set(options)


def test_what_the_kernel_cannot_be_told_here_is_no_failure(host):
    """A container has the settings of its machine, and no AppArmor of its own."""
    assert host.run("systemctl is-failed systemd-sysctl apparmor").rc != 0


def test_a_console_does_not_tell_the_version(host):
    assert root(host, "cat /etc/issue") == root(host, "cat /etc/issue.net")
    assert "authorized users only" in root(host, "cat /etc/issue")


OFF = {
    "base_sysctl_enabled": False,
    "base_core_dumps_enabled": True,
    "base_idle_logout_minutes": 0,
    "base_disabled_modules": [],
    "base_shm_hardening_enabled": False,
    "base_login_lock_enabled": False,
    "base_password_quality_enabled": False,
    "base_cron_restriction_enabled": False,
    "base_tmp_kind": "tmpfs",
}
PLACED = (
    "/etc/at.allow",
    "/etc/cron.allow",
    "/etc/modprobe.d/groundwork.conf",
    "/etc/profile.d/groundwork.sh",
    "/etc/security/limits.d/90-groundwork.conf",
    "/etc/security/pwquality.conf.d/50-groundwork.conf",
    "/etc/sysctl.d/90-groundwork.conf",
    "/etc/systemd/coredump.conf.d/50-groundwork.conf",
    "/etc/systemd/system.conf.d/50-groundwork.conf",
    "/etc/systemd/system/groundwork-shm.service",
    "/usr/share/pam-configs/groundwork-faillock",
)


def test_a_switch_that_is_turned_off_takes_with_it_what_it_has_placed(host, play):
    def placed():
        return [path for path in PLACED if host.file(path).exists]

    assert placed() == list(PLACED)
    try:
        assert play("--tags=config", **OFF).changed > 0
        assert placed() == []
        assert not host.file("/etc/pam.d/common-auth").contains("pam_faillock")
        assert "noexec" not in root(host, "findmnt -n -o OPTIONS /dev/shm")
        assert root(host, "systemctl show -p LoadState tmp.mount") == "LoadState=loaded"
        assert play("--tags=config", **OFF).changed == 0
    finally:
        play("--tags=config")
    assert placed() == list(PLACED)
    assert host.file("/etc/pam.d/common-auth").contains("pam_faillock")
    assert not host.file("/etc/systemd/system/tmp.mount").exists


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("base_sysctl_settings", {"net.ipv4.ip_forward": ""}, "give each setting one value"),
        ("base_disabled_modules", ["dccp;"], "no name of a module"),
        ("base_umask", "0222222", "no umask"),
        ("base_umask", "777", "takes from users what belongs to them"),
        ("base_login_settings", {"UMASK": "022"}, "which is base_umask"),
        ("base_password_characters", 6, "use 8 or more"),
        ("base_login_failures_count", 1, "allow 3 tries or more"),
        ("base_cron_users", ["Ada Lovelace"], "no Linux user name"),
        ("base_audit_extra_rules", ["watch /srv"], "no rule"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(refused, name, value, sentence):
    assert sentence in refused("--tags=validate", **{name: value})
