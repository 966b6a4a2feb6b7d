"""The promises of the role fail2ban: failures are written where they would be, bans are looked for in the kernel."""

import contextlib
import subprocess
import time

import pytest

STRANGER = "198.51.100.23"
OPERATOR = "192.0.2.9"


def banned(host, jail):
    """Addresses that a jail has banned."""
    return host.check_output(f"fail2ban-client get {jail} banip").split()


def wait_for_ban(host, jail, address, seconds=20):
    """Whether the jail bans the address within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if address in banned(host, jail):
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(autouse=True)
def nobody_is_banned(host):
    """Each test begins and ends without bans."""
    yield
    host.check_output("fail2ban-client unban --all")


def test_all_jails_run(host):
    listed = host.check_output("fail2ban-client status")
    for jail in ("sshd", "recidive", "forge-login", "forge-http-auth"):
        assert jail in listed
    assert host.service("fail2ban").is_enabled
    assert host.service("fail2ban").is_running


def test_failed_ssh_logins_are_banned_for_real(host, address):
    command = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=3"]
    command += ["-o", "UserKnownHostsFile=/dev/null", f"nobody-there@{address}", "true"]
    for _ in range(5):
        # The ban may come in the middle of an attempt, whose packets are dropped from then on.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=10, check=False)
        time.sleep(0.3)
    end = time.monotonic() + 20
    while not banned(host, "sshd") and time.monotonic() < end:
        time.sleep(0.5)
    assert banned(host, "sshd"), host.check_output("tail -n 20 /var/log/fail2ban.log")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Permission denied" not in refused.stderr, "the banned client does not even reach sshd"


def test_failed_logins_of_the_site_are_banned(host):
    for _ in range(3):
        host.check_output(f"logger -t forge 'login_failed ip={STRANGER} at 100%%'".replace("%%", "%"))
    assert wait_for_ban(host, "forge-login", STRANGER)
    assert STRANGER in host.check_output("nft list ruleset")


def test_failed_passwords_of_nginx_are_banned(host):
    now = host.check_output("date '+%Y/%m/%d %H:%M:%S'")
    said = f'user "x": password mismatch, client: {STRANGER}, server: f, request: "GET / HTTP/1.1", host: "f"'
    line = f"{now} [error] 7#7: *1 {said}"
    for _ in range(2):
        host.run("echo %s >> /var/log/forge-error.log", line)
    assert wait_for_ban(host, "forge-http-auth", STRANGER)


@pytest.mark.parametrize("address", [OPERATOR, "2001:db8::7", "127.0.0.1"])
def test_operators_are_never_banned(host, address):
    for _ in range(4):
        host.check_output(f"logger -t forge 'login_failed ip={address} at 100%'")
    for _ in range(3):
        host.check_output(f"logger -t forge 'login_failed ip={STRANGER} at 100%'")
    assert wait_for_ban(host, "forge-login", STRANGER)
    assert address not in banned(host, "forge-login")


def test_repeated_offenders_are_banned_everywhere(host):
    for _ in range(5):
        host.check_output(f"fail2ban-client set forge-login banip {STRANGER}")
        time.sleep(1.2)
        host.check_output(f"fail2ban-client set forge-login unbanip {STRANGER}")
    assert wait_for_ban(host, "recidive", STRANGER)


def test_a_missing_log_does_not_stop_the_service(host):
    host.check_output("systemctl stop fail2ban && rm -f /var/log/forge-error.log && systemctl start fail2ban")
    log = host.file("/var/log/forge-error.log")
    assert log.exists
    assert log.mode == 0o640
    assert host.service("fail2ban").is_running


def test_the_configuration_is_checked_before_it_counts(host):
    assert host.run("/usr/local/lib/groundwork/fail2ban-check").rc == 0
    host.run(
        "printf '[broken]\\nenabled = true\\nfilter = none-such\\nlogpath = /var/log/dpkg.log\\n' "
        "> /etc/fail2ban/jail.d/zz.local"
    )
    done = host.run("/usr/local/lib/groundwork/fail2ban-check")
    host.run("rm /etc/fail2ban/jail.d/zz.local")
    assert done.rc != 0
