"""What the host itself is told: ssh, updates, restarts."""

import pytest
from render import ROOT, SYSTEMS, evaluate, render


@pytest.mark.parametrize("system", SYSTEMS)
def test_keys_only_and_no_root_password(system):
    text = render("sshd", "etc/ssh/sshd_config.d/00-groundwork.conf.j2", system)
    assert "\nPasswordAuthentication no\n" in text
    assert "\nKbdInteractiveAuthentication no\n" in text
    assert "\nPermitRootLogin prohibit-password\n" in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_unattended_upgrades_take_security_updates_of_that_distribution_only(system):
    text = render("base", "etc/apt/apt.conf.d/52groundwork-unattended-upgrades.j2", system)
    origins = [line.strip() for line in text.splitlines() if '"origin=' in line]
    assert origins
    distribution = "Debian" if system.startswith("debian") else "Ubuntu"
    assert all(f'"origin={distribution}' in origin and "ecurity" in origin for origin in origins)


def test_an_update_restarts_nothing_by_itself():
    """Restarts happen once, in the window; the molecule scenario of base proves both sides of it."""
    text = render("base", "etc/needrestart/conf.d/90-groundwork.conf.j2")
    assert "$nrconf{restart} = 'l';" in text


def test_what_a_timer_of_ours_starts_tells_when_it_fails():
    timers = {path.relative_to(ROOT) for path in ROOT.glob("roles/*/templates/etc/systemd/system/*.timer.j2")}
    # The mail about a failure cannot tell of its own one.
    names = {"_timed_": "_unit_", "groundwork-failure-mail": ""}
    services = [path.with_name(f"{names.get(stem, stem)}.service.j2") for path in timers if (stem := path.name[:-9])]
    told = {path for path in services if path.name != ".service.j2"}
    assert len(told) >= 7
    assert [path for path in sorted(told) if "\nOnFailure={{" not in (ROOT / path).read_text()] == []


RELAY = {
    "base_operator_emails": ["ada@example.org"],
    "base_mail_relay_host": "mail.example.org",
    "base_mail_relay_login": "forge@example.org",
    "base_mail_relay_password": "secret",
}
MAIL_SERVICE = "etc/systemd/system/groundwork-failure-mail.service.j2"


def test_without_recipients_nothing_of_the_mail_is_installed_or_placed():
    assert not {"msmtp", "msmtp-mta | mail-transport-agent"} & set(evaluate("base", "__base_packages"))
    excluded = evaluate("base", "__base_excluded_files")
    assert {"/etc/msmtprc", "/etc/systemd/system/groundwork-failure-mail.*"} <= set(excluded)
    assert "OnSuccess" not in render("base", "etc/systemd/system/groundwork-failure@.service.j2")
    assert "Mail" not in render("base", "etc/apt/apt.conf.d/52groundwork-unattended-upgrades.j2")


def test_a_mail_server_that_is_on_the_host_stays():
    assert "msmtp-mta | mail-transport-agent" in evaluate("base", "__base_packages", **RELAY)
    assert "mailer = /usr/bin/msmtp\n" in render("base", "etc/groundwork/failures.conf.j2", **RELAY)


def test_without_a_relay_the_mail_server_of_the_host_is_used():
    own = {"base_operator_emails": ["ada@example.org"]}
    assert "msmtp" not in evaluate("base", "__base_packages", **own)
    assert "mailer = /usr/sbin/sendmail\n" in render("base", "etc/groundwork/failures.conf.j2", **own)
    # It changes to a user of its own and writes to its spool; msmtp does neither.
    assert "ReadWritePaths=-/var/spool" in render("base", MAIL_SERVICE, **own)
    assert "CapabilityBoundingSet=\n" in render("base", MAIL_SERVICE, **RELAY)


def test_the_sender_is_one_that_the_relay_knows():
    sender = "base_mail_from_email"
    # One of a site's own would change with each site that is applied to the host.
    assert evaluate("base", sender) == ""
    assert evaluate("base", sender, **RELAY) == "forge@example.org"


@pytest.mark.parametrize(("tls", "lines"), [("starttls", ["tls on", "tls_starttls on"]), ("none", ["tls off"])])
def test_tls_of_the_relay(tls, lines):
    text = render("base", "etc/msmtprc.j2", base_mail_relay_tls=tls, **RELAY)
    found = [line for line in text.splitlines() if line.startswith("tls") and "trust" not in line]
    assert found == lines
    assert 'password "secret"' in text
    assert "auth" not in render("base", "etc/msmtprc.j2", **{**RELAY, "base_mail_relay_login": ""})


def sysctl(**values):
    """Settings of the kernel, as the host reads them."""
    lines = render("base", "etc/sysctl.d/90-groundwork.conf.j2", **values).splitlines()
    return dict(line.split(" = ") for line in lines if " = " in line)


def test_the_operator_wins_over_the_hardened_kernel():
    assert sysctl()["-net.ipv4.conf.all.rp_filter"] == "2"
    chosen = sysctl(base_sysctl_settings={"net.ipv4.conf.all.rp_filter": 1})
    assert chosen["net.ipv4.conf.all.rp_filter"] == "1"
    assert "-net.ipv4.conf.all.rp_filter" not in chosen


def test_the_kernel_is_told_of_core_dumps_even_where_the_rest_is_off():
    assert sysctl(base_sysctl_enabled=False) == {"-fs.suid_dumpable": "0", "-kernel.core_pattern": "|/bin/false"}
    assert "-kernel.core_pattern" not in sysctl(base_core_dumps_enabled=True)


def test_nothing_is_forwarded_or_not_because_of_the_role():
    assert not [name for name in sysctl() if "forward" in name]


@pytest.mark.parametrize("system", SYSTEMS)
def test_sudo_writes_a_file_where_it_can(system):
    text = render("base", "etc/sudoers.d/groundwork-defaults.j2", system)
    assert ("logfile=" in text) is (system != "ubuntu-26.04")
    assert "Defaults use_pty\n" in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_umask_needs_a_profile_of_its_own_on_the_oldest_debian_only(system):
    assert ("groundwork-umask" in evaluate("base", "__base_pam_profiles", system)["wanted"]) is (system == "debian-12")
    assert "groundwork-umask" in evaluate("base", "__base_pam_profiles", system, base_umask="")["unwanted"]


def test_the_audit_takes_rules_of_the_operator():
    text = render("base", "etc/audit/rules.d/50-groundwork.rules.j2", base_audit_extra_rules=["-w /srv -p wa -k site"])
    assert "\n-w /etc/shadow -p wa -k identity\n" in text
    assert text.endswith("\n-w /srv -p wa -k site\n")


def test_what_is_optional_costs_nothing_where_it_is_off():
    usual = set(evaluate("base", "__base_packages"))
    assert {"auditd", "apparmor", "libpam-pwquality"} <= usual
    assert not {"aide", "acct"} & usual
    wished = evaluate("base", "__base_packages", base_file_integrity_enabled=True, base_process_accounting_enabled=True)
    assert {"aide", "acct"} <= set(wished)
    units = evaluate("base", "__base_hardening_wanted_units", base_process_accounting_enabled=True)
    assert "acct" in [unit["name"] for unit in units]


def test_nobody_else_makes_cron_jobs_unless_he_is_named():
    assert render("base", "etc/cron.allow.j2") == "root\n"
    assert render("base", "etc/at.allow.j2", base_cron_users=["ada"]) == "root\nada\n"
