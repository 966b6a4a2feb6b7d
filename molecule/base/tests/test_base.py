"""The promises of the role base, on a host that was bare."""

import re
import time

import pytest

POLICY = "/usr/sbin/policy-rc.d"


def packages(host, names, timeout=60, check=False):
    """Run the module packages on the host; names that are installed already are told apart by the host's dpkg."""
    return host.ansible("groundwork.django.packages", f"names={','.join(names)} timeout={timeout}", check=check)


@pytest.fixture(autouse=True)
def no_policy(host):
    """Whatever a test leaves of policies is taken away."""
    yield
    host.run(f"rm -f {POLICY} {POLICY}.kept-by-groundwork")


def test_packages_of_the_play_are_installed(host):
    for name in ("acl", "needrestart", "unattended-upgrades", "less"):
        assert host.package(name).is_installed, name


def test_nothing_of_the_transaction_is_left(host):
    assert not host.file(POLICY).exists
    assert host.check_output("dpkg --audit") == ""


def test_daemons_are_held_back_until_they_are_configured(host):
    result = packages(host, ["tinyproxy"])
    assert result["changed"]
    assert result["installed"] == ["tinyproxy"]
    assert not host.service("tinyproxy").is_running
    assert not host.file(POLICY).exists
    assert not packages(host, ["tinyproxy"])["changed"]
    host.check_output("apt-get purge -y -q tinyproxy tinyproxy-bin")


def test_a_policy_left_by_a_killed_run_is_without_effect_and_removed(host):
    policy = "#!/bin/sh\n# Placed by groundwork.django.packages for process 1 started 1\nexit 101\n"
    host.run(f"printf '{policy}' > {POLICY}; chmod 0755 {POLICY}")
    result = packages(host, ["acl"])
    assert result["repaired"] == ["policy-rc.d of a killed run"]
    assert not host.file(POLICY).exists


def test_a_policy_of_the_operator_is_kept(host):
    host.run(f"printf '#!/bin/sh\\nexit 104\\n' > {POLICY}; chmod 0755 {POLICY}")
    assert packages(host, ["tree"])["changed"]
    assert host.file(POLICY).content_string == "#!/bin/sh\nexit 104\n"
    assert not host.file(f"{POLICY}.kept-by-groundwork").exists
    host.check_output("apt-get purge -y -q tree")


def test_an_interrupted_transaction_is_finished(host):
    host.check_output("cd /tmp && apt-get download -q tree && dpkg --unpack tree_*.deb && rm tree_*.deb")
    result = packages(host, ["acl"])
    assert "dpkg was interrupted" in result["repaired"]
    assert host.check_output("dpkg-query -W -f '${db:Status-Status}' tree") == "installed"
    host.check_output("apt-get purge -y -q tree")


def test_it_waits_for_the_apt_lock_and_names_who_holds_it(host):
    lock = (
        "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep(float(sys.argv[2]))"
    )
    path = "/var/lib/dpkg/lock-frontend"
    host.run(f'nohup python3 -c "{lock}" {path} 12 >/dev/null 2>&1 &')
    time.sleep(1)
    message = packages(host, ["tree"], timeout=2)["msg"]
    assert f"{path} is still held by process" in message
    assert "python3 -c" in message
    assert packages(host, ["tree"])["changed"]
    host.check_output("apt-get purge -y -q tree")


def test_it_waits_for_cloud_init(host):
    host.run("mkdir -p /run/cloud-init && touch /run/cloud-init/enabled")
    message = packages(host, ["acl"], timeout=2, check=True).get("msg", "")
    host.run("rm -r /run/cloud-init")
    assert "cloud-init has not finished after 2 seconds" in message


def test_time_zone_and_language_are_set(host):
    assert host.file("/etc/localtime").linked_to == "/usr/share/zoneinfo/Europe/Berlin"
    assert host.check_output("date +%Z") in ("CET", "CEST")
    assert "de_DE.utf8" in host.check_output("locale -a").splitlines()
    assert "LANG=de_DE.UTF-8" in host.file("/etc/default/locale").content_string


def test_the_journal_is_kept_and_capped(host):
    assert host.run("ls /var/log/journal/*/system.journal").rc == 0
    assert "SystemMaxUse=500M" in host.check_output("systemd-analyze cat-config systemd/journald.conf")
    log = host.check_output("journalctl -u systemd-journald --no-pager")
    assert "System Journal (/var/log/journal" in log
    assert "500.0M" in log or "500M" in log


def test_admin_users_have_exactly_their_keys(host):
    for name in ("operator", "reader"):
        keys = host.file(f"/home/{name}/.ssh/authorized_keys")
        assert keys.content_string.count("ssh-ed25519") == 1
        assert (keys.user, keys.mode) == (name, 0o600)
        assert host.file("/etc/shadow").contains(f"^{name}:[!*]")


def test_only_those_with_sudo_become_root(host):
    assert host.check_output("sudo -u operator sudo -n id -u") == "0"
    assert host.run("sudo -u reader sudo -n id -u").rc != 0
    assert host.file("/etc/sudoers.d/groundwork-admins-forge").mode == 0o440


def test_security_updates_and_nothing_else_are_installed_by_themselves(host):
    done = host.run("unattended-upgrade --dry-run --debug")
    assert done.rc == 0
    allowed = re.search(r"Allowed origins are: (.*)", done.stdout + done.stderr).group(1)
    origins = [part for part in re.split(r", (?=origin=)", allowed) if part]
    assert origins
    assert all("ecurity" in origin for origin in origins), origins
    assert host.service("unattended-upgrades").is_enabled
    assert host.service("unattended-upgrades").is_running


def test_updates_and_reboots_happen_in_the_declared_window(host):
    timer = host.check_output("systemctl cat apt-daily-upgrade.timer")
    assert "OnCalendar=*-*-* 02:00" in timer
    listed = host.check_output("systemctl show -p TimersCalendar -p Persistent apt-daily-upgrade.timer")
    assert listed.count("OnCalendar=") == 1
    assert "02:00:00" in listed
    assert "Persistent=no" in listed
    config = host.check_output("apt-config dump Unattended-Upgrade::Automatic-Reboot-Time")
    assert '"04:00"' in config


def test_needrestart_bounces_nothing_in_working_hours(host):
    program = (
        "our %nrconf = (override_rc => {}); do q(/etc/needrestart/conf.d/90-groundwork.conf) or die; "
        "print $nrconf{restart}, q( ), join q(,), keys %{$nrconf{override_rc}};"
    )
    assert host.check_output("perl -e %s", program) == "l (?^:^postgresql)"


@pytest.mark.parametrize(
    ("now", "restarts"), [("0159", False), ("0200", True), ("0459", True), ("0500", False), ("1300", False)]
)
def test_services_are_restarted_once_after_the_updates_of_the_night(host, now, restarts):
    script = "/usr/local/lib/groundwork/restart-after-updates"
    timer = host.check_output("systemctl show -p ActiveState -p TimersCalendar groundwork-restart-after-updates.timer")
    assert "ActiveState=active" in timer
    assert "04:00:00" in timer
    host.run("mkdir -p /root/fake && printf '#!/bin/sh\necho restarted \"$@\"\n' > /root/fake/needrestart")
    host.run(f"printf '#!/bin/sh\necho {now}\n' > /root/fake/date && chmod 0755 /root/fake/*")
    said = host.check_output(f"PATH=/root/fake:$PATH {script}")
    host.run("rm -r /root/fake")
    assert (said == "restarted -q -l -r a") is restarts


def test_needrestart_reads_its_configuration(host):
    done = host.run("needrestart -b -l")
    assert done.rc == 0, done.stderr
    assert "Error parsing" not in done.stderr
