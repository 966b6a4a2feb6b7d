"""What roles/logrotate/README.md promises."""

from __future__ import annotations

import json

import pytest

POLICIES = {"nginx": 14, "forge-app": 10, "forge-security": 30}


def values(**extra) -> tuple[str, str]:
    """Arguments that give a run of the playbook other values."""
    return "--extra-vars", json.dumps(extra)


@pytest.mark.parametrize(("name", "keep"), POLICIES.items())
def test_each_policy_is_a_file_of_its_own(host, name, keep):
    policy = host.file(f"/etc/logrotate.d/{name}")
    assert (policy.user, policy.group, policy.mode) == ("root", "root", 0o644)
    assert "\n    daily\n" in policy.content_string
    assert f"\n    rotate {keep}\n" in policy.content_string


def test_logrotate_accepts_the_whole_configuration(host):
    run = host.run("logrotate --debug /etc/logrotate.conf")
    assert run.rc == 0
    assert "error:" not in run.stderr


def test_timer_rotates_every_day(host):
    assert host.service("logrotate.timer").is_enabled


def test_logs_of_the_site_are_rotated_as_its_user(host):
    host.run_expect([0], "rm -f /var/log/forge/app.log-*")
    host.run_expect([0], "runuser -u forge -- sh -c 'umask 077; echo one >/var/log/forge/app.log'")
    host.run_expect([0], "logrotate --force /etc/logrotate.d/forge-app")
    new = host.file("/var/log/forge/app.log")
    assert (new.user, new.group, new.mode, new.size) == ("forge", "forge", 0o640, 0)
    rotated = host.check_output("ls /var/log/forge/app.log-*")
    assert host.file(rotated).content_string == "one\n"


def test_nginx_writes_into_the_new_log_after_a_rotation(host, get):
    host.run_expect([0], "rm -f /var/log/nginx/*.log-*")
    get("/before")
    host.run_expect([0], "logrotate --force /etc/logrotate.d/nginx && sleep 1")
    get("/after")
    log = host.file("/var/log/nginx/forge.access.log")
    assert (log.user, log.group, log.mode) == ("www-data", "adm", 0o640)
    assert '"/after"' in log.content_string
    assert '"/before"' not in log.content_string
    assert '"/before"' in host.check_output("cat /var/log/nginx/forge.access.log-*")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"create": "0640 nobody-there forge"}, "unknown user"),
        ({"su": "forge nobody-there"}, "unknown group"),
        ({"su": ""}, "insecure permissions"),
        ({"paths": ["/var/log/dpkg.log"]}, "duplicate log entry"),
    ],
)
def test_logrotate_itself_judges_before_anything_is_placed(host, play, policy, said):
    host.run_expect([0], "touch /var/log/dpkg.log && chgrp forge /var/log/forge && chmod 0770 /var/log/forge")
    bad = {"name": "forge-bad", "paths": ["/var/log/forge/bad.log"], "keep": 1, "su": "forge forge", **policy}
    host.run_expect([0], "touch /var/log/forge/bad.log")
    with pytest.raises(AssertionError) as failure:
        play(*values(logrotate_policies=[bad]))
    assert said in str(failure.value)
    assert not host.file("/etc/logrotate.d/forge-bad").exists
    assert host.file("/etc/logrotate.d/forge-app").exists
    host.run_expect([0], "rm /var/log/forge/bad.log && chmod 0750 /var/log/forge")


def test_policies_that_are_no_longer_declared_are_removed_and_others_stay(host, play):
    declared = [{"name": "forge-other", "paths": ["/var/log/forge/other.log"], "keep": 2, "su": "forge forge"}]
    play(*values(logrotate_policies=declared))
    assert host.file("/etc/logrotate.d/forge-other").exists
    assert not host.file("/etc/logrotate.d/forge-app").exists
    assert host.file("/etc/logrotate.d/apt").exists
    play()
    assert not host.file("/etc/logrotate.d/forge-other").exists
    assert host.file("/etc/logrotate.d/forge-app").exists
