"""`--tags validate` stops at each wrong input with one sentence that names it, and touches nothing.

The play is the real one, on this machine, as the user who runs the tests. The interpreter of the host is a wrapper
that changes facts on their way back, so the tests do not depend on the system they run on.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from repository import ROOT

GOOD = {
    "groundwork_site_name": "forge",
    "groundwork_site_domains": ["forge.example.org", "www.forge.example.org"],
    "groundwork_tls_mode": "selfsigned",
    "gunicorn_app_source": {"type": "directory", "path": str(ROOT / "app")},
    "gunicorn_app_settings_module": "config.settings",
    "gunicorn_app_wsgi": "config.wsgi:application",
}
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
ELSEWHERE = {"groundwork_database_host": "db.example.org", "postgres_client_networks": ["192.0.2.0/24"]}
MAIL = {
    "base_operator_emails": ["ada@example.org"],
    "base_mail_from_email": "root@example.org",
    "base_mail_relay_host": "mail.example.org",
}
POOL = {"groundwork_pgbouncer_enabled": True}
REDIS = {"groundwork_redis_enabled": True, "groundwork_redis_password": "twenty characters and more"}
PHYSICAL = {"backups_physical_enabled": True, "backups_passphrase": "twenty-characters-and-more"}
FILES = {"backups_files_enabled": True, "backups_passphrase": "twenty-characters-and-more"}
SFTP = {
    "type": "sftp",
    "path": "/forge",
    "host": "backup.example.org",
    "user": "keeper",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----",
    "host_public_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"],
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2vN7NO1u7c5Gk6hQm0m0m0m0m0m0m0m0m0m0m0m0m0 ada@laptop"
#: what may run under `--tags validate`: nothing that could change a host
HARMLESS = re.compile(
    r"check the values|gather the facts|gathering facts|check that the host suits|validating arguments", re.I
)
WRAPPER = """#!{python}
import re, subprocess, sys
run = subprocess.run([{python!r}, *sys.argv[1:]], stdin=sys.stdin, stdout=subprocess.PIPE, text=True)
out = run.stdout
for name, value in {facts!r}.items():
    out = re.sub(r'"ansible_%s": (?:"[^"]*"|{{}})' % name, lambda match: '"ansible_%s": %s' % (name, value), out)
sys.stdout.write(out)
sys.exit(run.returncode)
"""


class Run:
    """One run of the site's play with `--tags validate`: its exit status, output, tasks and sentences."""

    def __init__(self, process: subprocess.CompletedProcess):
        self.status = process.returncode
        self.output = process.stdout + process.stderr
        self.tasks = re.findall(r"^TASK \[(.*?)\] \**$", process.stdout, re.MULTILINE)
        self.by_host: dict[str, set[str]] = {}
        for host, block in re.findall(
            r"^fatal: \[(.*?)\]: FAILED! => ?\n((?: {4}.*\n)+)", process.stdout, re.MULTILINE
        ):
            self.by_host.setdefault(host, set()).update(yaml.safe_load(block)["msg"].splitlines())
        self.sentences = {sentence for sentences in self.by_host.values() for sentence in sentences}


@pytest.fixture
def validate(tmp_path):
    """Function `validator` for a directory of this test's own."""
    return validator(tmp_path)


def validator(tmp_path: Path):
    """A function that runs the play for values of one host, or for the hosts of a whole inventory.

    caches: the hosts in the group cache; all of them unless given.
    """

    def run(values=None, hosts=None, caches=None, facts=None, playbook=PLAYBOOK, arguments=()):
        told = {"distribution": "Debian", "distribution_version": "13.1", **(facts or {})}
        wrapper = tmp_path / "python"
        wrapper.write_text(
            WRAPPER.format(python=sys.executable, facts={name: json.dumps(value) for name, value in told.items()}),
            encoding="utf-8",
        )
        wrapper.chmod(0o755)
        hosts = hosts or {"h1": {}}
        caches = hosts if caches is None else caches
        inventory = {
            "all": {
                "hosts": {
                    name: {
                        key: value
                        for key, value in {**GOOD, **(values or {}), **hosts.get(name, {})}.items()
                        if value is not ...
                    }
                    for name in {**hosts, **dict.fromkeys(caches)}
                },
                "vars": {
                    "ansible_connection": "local",
                    "ansible_become": False,
                    "ansible_python_interpreter": str(wrapper),
                },
                "children": {
                    "app": {"hosts": dict.fromkeys(hosts)},
                    "db": {"hosts": dict.fromkeys(hosts)},
                    "cache": {"hosts": dict.fromkeys(caches)},
                },
            }
        }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_NOCOLOR": "1",
            # an old ansible-core finds the other collections where the current one has them
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.ansible/collections:{sysconfig.get_paths()['purelib']}",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        }
        command = [playbook, "-i", tmp_path / "hosts.yml", "site.yml", "--tags", "validate", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return Run(done)

    return run


def test_good_values_pass_and_nothing_but_checks_and_facts_runs(validate):
    run = validate()
    assert run.status == 0, run.output
    assert [task for task in run.tasks if not HARMLESS.search(task)] == []
    assert "changed=0" in run.output


WRONG = {
    "malformed domain": (
        {"groundwork_site_domains": ["https://forge.example.org"]},
        'groundwork_site_domains[0] is "https://forge.example.org", which is not a host name: leave out "https://".',
    ),
    "missing secret": (
        {**ELSEWHERE, "groundwork_database_password": "{{ vault_database_password }}"},
        "groundwork_database_password needs vault_database_password, which is not defined: put it into the "
        "vault.yml of "
        "the environment, in group_vars.",
    ),
    "empty secret": (
        ELSEWHERE,
        'groundwork_database_password is not set, but groundwork_database_host is "db.example.org": put the '
        "password into "
        "the vault.yml of the environment, in group_vars.",
    ),
    "indexes that are never rebuilt": (
        {"postgres_care_index_bloat_percent": 100},
        "postgres_care_index_bloat_percent is 100, with which indexes would be rebuilt in vain or never: use 10 to 99.",
    ),
    "no share of dead rows": (
        {"postgres_care_dead_rows_percent": 0},
        "postgres_care_dead_rows_percent is 0, which is not a share: use 1 to 100.",
    ),
    "care that waits for ever": (
        {"postgres_care_lock_timeout_seconds": 0},
        "postgres_care_lock_timeout_seconds is 0, with which a statement would wait for a lock without end: use 1 "
        "or more.",
    ),
    "metrics in a directory with a blank": (
        {"postgres_care_metrics_directory": "/var/lib/my metrics"},
        'postgres_care_metrics_directory is "/var/lib/my metrics": use a path without blanks, quotation marks, '
        "backslashes and percent signs.",
    ),
    "missing secret of Redis": (
        {"groundwork_redis_enabled": True, "groundwork_redis_password": "{{ vault_redis_password }}"},
        "groundwork_redis_password needs vault_redis_password, which is not defined: put it into the vault.yml of "
        "the environment, in group_vars.",
    ),
    "empty secret of Redis": (
        {"groundwork_redis_enabled": True},
        "groundwork_redis_password is not set, but groundwork_redis_enabled is true: put the password into the "
        "vault.yml of the environment, in group_vars.",
    ),
    "short secret of Redis": (
        {"groundwork_redis_enabled": True, "groundwork_redis_password": "guessed"},
        "groundwork_redis_password has fewer than 20 characters, too few to lie on the host as a SHA-256: make a "
        "long one at random.",
    ),
    "pool in a directory of everybody's": (
        {**POOL, "groundwork_pgbouncer_socket_directory": "/tmp/pool"},
        'pgbouncer_socket_directory is "/tmp/pool": name a directory of its own below /run, with at most 80 '
        "characters.",
    ),
    "database with the name of PgBouncer's console": (
        {**POOL, "groundwork_database_name": "pgbouncer"},
        'pgbouncer_database_name is "pgbouncer", which PgBouncer cannot serve: it takes letters, digits, dots, '
        'hyphens and underscores, and "pgbouncer" is its own console.',
    ),
    "pool for nobody": (
        {**POOL, "pgbouncer_clients_count": 0},
        "pgbouncer_clients_count is 0: set it to 1 or more.",
    ),
    "malformed name of a setting of PgBouncer": (
        {**POOL, "pgbouncer_extra_settings": {"server-lifetime": 60}},
        'pgbouncer_extra_settings has a name that is not one of PgBouncer: write it like "server_lifetime".',
    ),
    "unknown eviction policy": (
        {**REDIS, "redis_eviction_policy": "lru"},
        'redis_eviction_policy is "lru", which is not one of its choices: write one of allkeys-lru, allkeys-lfu, '
        "allkeys-random, volatile-lru, volatile-lfu, volatile-random, volatile-ttl, noeviction.",
    ),
    "rule of Redis that is no command": (
        {**REDIS, "redis_extra_commands": ["~*"]},
        "redis_extra_commands has an entry that does not add a command or a category: write one like "
        '"+publish" or "+@scripting".',
    ),
    "socket without a directory of its own": (
        {**REDIS, "groundwork_redis_socket_file": "/run/redis.sock"},
        'redis_socket_file is "/run/redis.sock": name a file in a directory of its own below /run, with at most '
        "100 characters.",
    ),
    "two caches": (
        {**REDIS, "gunicorn_app_environment": {"REDIS_URL": "redis://cache.example.org:6379/0"}},
        "REDIS_URL stands both in gunicorn_app_environment and in gunicorn_app_secrets or "
        "gunicorn_app_role_secrets: keep one of them.",
    ),
    "missing passphrase of the backups": (
        {"backups_physical_enabled": True, "backups_passphrase": "{{ vault_backups_passphrase }}"},
        "backups_passphrase needs vault_backups_passphrase, which is not defined: put it into the vault.yml of the "
        "environment, in group_vars.",
    ),
    "name of a role that nobody could write down": (
        {"backups_database_role": "Forge's backup"},
        'postgres_role_readers has "Forge\'s backup", which is no name for a role that reads: use up to 63 '
        "lower-case letters, digits, hyphens and underscores (backups_database_role, where it is for the backups).",
    ),
    "the site itself as the reader": (
        {"backups_database_role": "forge"},
        'postgres_role_readers has the superuser or the site\'s own role "forge": name a role that only reads '
        "(backups_database_role, where it is for the backups).",
    ),
    "empty passphrase of the backups": (
        {"backups_physical_enabled": True},
        "backups_passphrase is not set, but backups_physical_enabled is true: put the passphrase into the "
        "vault.yml of the environment, in group_vars.",
    ),
    "passphrase with blanks": (
        {**PHYSICAL, "backups_passphrase": "correct horse battery staple"},
        "backups_passphrase has fewer than 20 characters, or a blank or a letter that is not ASCII: make a long "
        "one at random.",
    ),
    "empty passphrase of the files": (
        {"backups_files_enabled": True},
        "backups_passphrase is not set, but backups_files_enabled is true: put the passphrase into the vault.yml "
        "of the environment, in group_vars.",
    ),
    "files to nowhere": (
        {**FILES, "backups_repositories": []},
        "backups_repositories has 0 entries, but backups_files_enabled is true: name 1 to 4 places for the backups.",
    ),
    "a path of the files without a slash": (
        {"backups_system_paths": ["/etc/letsencrypt", "srv/keys"]},
        'backups_system_paths has "srv/keys": begin each path with a slash.',
    ),
    "a path of the files with a blank": (
        {"backups_system_paths": ["/srv/my keys"]},
        "backups_system_paths has a path with a blank, a quotation mark, a backslash or a percent sign: name the "
        "directory above it, or put a question mark in its place.",
    ),
    "schedule of the files": (
        {"backups_files_cron_schedule": "daily"},
        'backups_files_cron_schedule is "daily", which is not the time of a crontab: write five fields, like '
        '"30 3 * * *".',
    ),
    "files that are never read back": (
        {"backups_files_read_back_days": 0},
        "backups_files_read_back_days is 0: use 1 to 256.",
    ),
    "backups to nowhere": (
        {**PHYSICAL, "backups_repositories": []},
        "backups_repositories has 0 entries, but backups_physical_enabled is true: name 1 to 4 places for the backups.",
    ),
    "repository with a blank": (
        {**PHYSICAL, "backups_repositories": [{"type": "directory", "path": "backups of forge"}]},
        'backups_repositories has the path "backups of forge": begin with a slash, and use letters, digits, dots, '
        "hyphens and underscores only.",
    ),
    "sftp without a user": (
        {
            **PHYSICAL,
            "backups_repositories": [
                {"type": "directory", "path": "/srv/a"},
                {k: v for k, v in SFTP.items() if k != "user"},
            ],
        },
        'An entry of backups_repositories is of type "sftp" and not complete: give it host, user, private_key and '
        "host_public_keys.",
    ),
    "S3 without a bucket": (
        {**PHYSICAL, "backups_repositories": [{"type": "s3", "path": "/forge", "host": "s3.example.org"}]},
        'An entry of backups_repositories is of type "s3" and not complete: give it host, bucket, region, '
        "access_key and secret_key.",
    ),
    "fingerprint in place of a key": (
        {
            **PHYSICAL,
            "backups_repositories": [{**SFTP, "host_public_keys": ["SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCA"]}],
        },
        "One of host_public_keys in backups_repositories is not a public key: write its type and the key, like "
        '"ssh-ed25519 AAAA...", as `ssh-keyscan` prints them behind the name.',
    ),
    "log too small to be archived": (
        {"postgres_extra_settings": {"wal_level": "minimal"}},
        'postgres_extra_settings sets wal_level to "minimal", with which the server does not start while '
        'archive_mode is on: set archive_mode to "off" as well, or remove the line.',
    ),
    "port out of range": (
        {"groundwork_ssh_port": 99999},
        "groundwork_ssh_port is 99999, which is not a port: write a number from 1 to 65535.",
    ),
    "header of a location that would be there twice": (
        {"nginx_locations": [{"path": "/embed/", "extra_settings": ["add_header X-Frame-Options SAMEORIGIN;"]}]},
        'nginx_locations adds a header that every answer has already, "add_header X-Frame-Options SAMEORIGIN;": '
        "have the site send it for those pages, or set it for all in nginx_security_headers.",
    ),
    "header that only some answers would have": (
        {"nginx_extra_server_settings": ["add_header X-Extra here;"]},
        "nginx_extra_http_settings or nginx_extra_server_settings has an add_header, which some answers would not "
        "get and others twice: put the header into nginx_security_headers, or into extra_settings of an item of "
        "nginx_locations.",
    ),
    "server_tokens twice": (
        {"nginx_extra_http_settings": ["server_tokens off;"]},
        "nginx_extra_http_settings has server_tokens, which is off already: nginx refuses it twice, so take it out.",
    ),
    "no header": (
        {"nginx_security_headers": {"X Frame": "DENY"}},
        'nginx_security_headers has "X Frame", which is no name of a header: write one like X-Frame-Options.',
    ),
    "a header twice": (
        {"nginx_security_headers": {"X-Frame-Options": "DENY", "x-frame-options": "DENY"}},
        "nginx_security_headers names a header twice, in other letters: no matter how it is written, it is the "
        "same one.",
    ),
    "a header of one answer": (
        {"nginx_security_headers": {"Content-Length": "2"}},
        "nginx_security_headers has content-length, which tells of one answer and not of all: leave it to nginx "
        "and to the site.",
    ),
    "reports below none": (
        {"nginx_csp_reports_per_minute": -1},
        "nginx_csp_reports_per_minute is -1: write a number from 0 on; 0 is no limit.",
    ),
    "header with variables of its own": (
        {"nginx_security_headers": {"Strict-Transport-Security": "max-age=1"}},
        "nginx_security_headers has Strict-Transport-Security: use nginx_content_security_policy and "
        "groundwork_hsts_stage, since these depend on the answer.",
    ),
    "endpoint that would end the directive": (
        {"groundwork_csp_report_uri": "https://reports.example.org/a; script-src *"},
        'nginx_csp_report_uri is "https://reports.example.org/a; script-src *", which no header can name: have it, '
        "or groundwork_csp_report_uri, be a path of the site or an https URL, without blanks, quotes, commas and "
        "semicolons.",
    ),
    "reports that nginx never sees": (
        {"nginx_csp_report_uri": "https://reports.example.org/", "nginx_csp_reports_logged_enabled": True},
        'nginx_csp_reports_logged_enabled is true, but nginx_csp_report_uri is "https://reports.example.org/": '
        'nginx takes reports at a path of the site only, such as "/.groundwork/csp-report".',
    ),
    "body size": (
        {"nginx_client_max_body_size": "10x"},
        'nginx_client_max_body_size is "10x", which is not a size: write a number with k, m or g, like "10m".',
    ),
    "required value missing": (
        {"groundwork_site_name": ...},
        "groundwork_site_name is not set: set it in group_vars (name of the site).",
    ),
    "reserved name": (
        {"groundwork_site_name": "postgres"},
        'groundwork_site_name is "postgres", a name that the system uses itself: choose another one, like '
        '"postgres_site".',
    ),
    "unknown choice": (
        {"groundwork_tls_mode": "none"},
        'groundwork_tls_mode is "none", which is not one of its choices: write one of acme, provided, '
        "selfsigned, external.",
    ),
    "port of the site for ssh": (
        {"groundwork_ssh_port": 443},
        "sshd_port is 443, where the site itself is served: choose another port.",
    ),
    "admin who is the site": (
        {"base_admin_users": [{"name": "forge", "ssh_keys": [KEY]}]},
        "base_admin_users names root, www-data, postgres or forge, the user that the site runs as: whoever broke "
        "into that service would be root. Give people users of their own.",
    ),
    "half an ssh key": (
        {"base_admin_users": [{"name": "ada", "ssh_keys": ["ssh-ed25519 AAAA"]}]},
        "base_admin_users has an ssh key that is none: write the whole line of a .pub file, like "
        '"ssh-ed25519 AAAAC3Nz... you@laptop".',
    ),
    "operator without an address": (
        {"base_operator_emails": ["ada@example.org", "root"]},
        'base_operator_emails[1] is "root", which is not an e-mail address: write one like "admin@example.org".',
    ),
    "mail without a sender": (
        {**MAIL, "base_mail_from_email": ""},
        "base_operator_emails is set, but base_mail_from_email is not: name the sender of the mails, like "
        '"root@example.org".',
    ),
    "login without a password": (
        {**MAIL, "base_mail_relay_login": "forge@example.org"},
        "Of base_mail_relay_login and base_mail_relay_password only one is set: a server that asks for a password "
        "wants both, another one neither.",
    ),
    "password of two lines": (
        {**MAIL, "base_mail_relay_login": "forge@example.org", "base_mail_relay_password": "sentinel\nvalue"},
        "base_mail_relay_login or base_mail_relay_password has an end of line or another control character, or "
        "more than 400 characters: write just what the server asks for.",
    ),
    "mail without TLS": (
        {**MAIL, "base_mail_relay_tls": "none"},
        'base_mail_relay_tls is "none", but base_mail_relay_host is mail.example.org, another host: use "starttls" '
        'or "tls", or anybody on the way reads the mails and the password.',
    ),
    "STARTTLS where TLS begins at once": (
        {**MAIL, "base_mail_relay_port": 465},
        'base_mail_relay_port is 465, where TLS begins at once: set base_mail_relay_tls to "tls", or use port 587.',
    ),
    "URL for the host of a relay": (
        {"base_mail_relay_host": "smtps://mail.example.org"},
        'base_mail_relay_host is "smtps://mail.example.org", which is no name of a host: write one like '
        '"mail.example.org", and the port in base_mail_relay_port.',
    ),
    "watched unit without its kind": (
        {"base_watched_units": ["nginx"]},
        'base_watched_units has an entry that is no unit which can fail: write its whole name, like "nginx.service".',
    ),
    "owner that sudo would not read": (
        {"base_owner": "a.b"},
        'base_owner is "a.b", which cannot end the name of a file that sudo reads; use letters, digits, '
        "underscores and hyphens.",
    ),
    "source that is not there": (
        {"gunicorn_app_source": {"type": "directory", "path": "/nowhere/at/all"}},
        'gunicorn_app_source.path is "/nowhere/at/all", which is no directory of this machine: write an absolute '
        "path, or one that starts where you run ansible-playbook.",
    ),
    "bad name in the environment": (
        {"gunicorn_app_environment": {"MAIL-HOST": "mail.example.org"}},
        "MAIL-HOST in gunicorn_app_environment or gunicorn_app_secrets cannot be the name of a variable: use "
        "letters, digits and underscores.",
    ),
    "null in the environment": (
        {"gunicorn_app_environment": {"MAIL_HOST": None}},
        'MAIL_HOST in gunicorn_app_environment is null: give it a value, "" for an empty one, or remove the line.',
    ),
    "misspelled variable": (
        {"nginx_client_max_body_siz": "10m"},
        "nginx_client_max_body_siz is set, but there is no such variable: did you mean nginx_client_max_body_size?",
    ),
    "directory of the system": (
        {"groundwork_site_directory": "/etc"},
        'groundwork_site_directory is "/etc", which is not a path of its own: that directory belongs to the '
        "system: name one below it.",
    ),
    "everybody is an operator": (
        {"groundwork_operator_networks": ["0.0.0.0/0"]},
        "fail2ban_ignored_networks has 0.0.0.0/0, which is everybody: name the networks that you come from, or "
        "leave the list empty.",
    ),
    "trust that is not there": (
        {"certbot_ca_bundle_file": "/nowhere/root.pem"},
        'certbot_ca_bundle_file is "/nowhere/root.pem", which is no file of this machine: write the absolute path '
        "of a PEM file.",
    ),
    "settings by their path": (
        {"gunicorn_app_settings_module": "config/settings.py"},
        'gunicorn_app_settings_module is "config/settings.py", which is not the name of a module: write it as '
        'Python imports it, like "config.settings".',
    ),
    "a setting of a unit that is two": (
        {"nginx_unit_settings": {"LimitNOFILE": "9000\nUser=root"}},
        "nginx_unit_settings is a mapping, which is not made of settings of a unit: write LimitNOFILE as "
        "systemd.exec(5) has it, and on one line.",
    ),
    "a setting of a unit that systemd does not know": (
        {"gunicorn_app_unit_settings": {"limit_nofile": 9000}},
        "gunicorn_app_unit_settings is a mapping, which is not made of settings of a unit: write limit_nofile as "
        "systemd.exec(5) has it, and on one line.",
    ),
    "too long to be kept out": (
        {"groundwork_confirm_seconds": 7200},
        "groundwork_confirm_seconds is 7200, which is not 0 or a number from 15 to 900: give the host time for one "
        "login, but keep nobody out for longer than needed; 0 is no proof.",
    ),
    "sshd's settings for some only": (
        {"sshd_extra_settings": {"Match": "all", "PasswordAuthentication": "yes"}},
        "sshd_extra_settings has Match or Include, after which other values than those of this role could count: "
        "write a file of your own in /etc/ssh/sshd_config.d.",
    ),
    "a port that only root may listen on": (
        {"gunicorn_app_listen_ports": [5555, 443]},
        "gunicorn_app_listen_ports has 443, which the site's user may not listen on: use ports from 1024 to 65535.",
    ),
    "application by its path": (
        {"gunicorn_app_wsgi": "config/wsgi.py"},
        'gunicorn_app_wsgi is "config/wsgi.py", which gunicorn cannot import: write module and name, like '
        '"config.wsgi:application".',
    ),
    "both kinds of application": (
        {"gunicorn_app_asgi": "config.asgi:application"},
        'gunicorn_app_wsgi is "config.wsgi:application" and gunicorn_app_asgi is "config.asgi:application": set '
        'one of them, like "config.wsgi:application".',
    ),
    "server without a socket": (
        {"gunicorn_app_server_command": ["granian", "config.wsgi:application"]},
        'gunicorn_app_server_command is "granian config.wsgi:application", which does not say where to listen: '
        "write {socket} where the command takes the path of a unix socket.",
    ),
    "archive without a checksum": (
        {"gunicorn_app_source": {"type": "archive", "url": "https://forge.example.org/forge.tar.gz"}},
        "gunicorn_app_source has the url of an archive and no checksum, so nobody knows what it will hold: write "
        'checksum "sha256:" and the digits that sha256sum prints.',
    ),
    "checksum that is none": (
        {
            "gunicorn_app_source": {
                "type": "archive",
                "url": "https://forge.example.org/a.tar",
                "checksum": "md5:00",
            }
        },
        'gunicorn_app_source.checksum is "md5:00", which is no checksum: write "sha256:" and the 64 digits that '
        "sha256sum prints.",
    ),
    "archive that is not there": (
        {"gunicorn_app_source": {"type": "archive", "path": "/nowhere/forge.tar.gz"}},
        'gunicorn_app_source.path is "/nowhere/forge.tar.gz", which is no file of this machine: write an absolute '
        "path, or one that starts where you run ansible-playbook.",
    ),
    "package without its version": (
        {"gunicorn_app_source": {"type": "package", "spec": "forge>=1.4"}},
        'gunicorn_app_source.spec is "forge>=1.4", which does not say one version of one package: write it like '
        '"forge==1.4.2" or "forge[redis]==1.4.2".',
    ),
    "file outside of the source": (
        {"gunicorn_app_files": [{"dest": "../outside.py", "content": ""}]},
        'gunicorn_app_files has the dest "../outside.py", which is no path below the source: write one without a '
        'slash in front and without "..".',
    ),
    "file without a content": (
        {"gunicorn_app_files": [{"dest": "local.py"}]},
        "gunicorn_app_files has an entry without one of content and template: set one of them.",
    ),
    "shared path with a slash at its end": (
        {"gunicorn_app_shared_paths": ["data/"]},
        "data/ in gunicorn_app_shared_paths or gunicorn_app_state_directories is no path of its own below the "
        'source or the state directory: write one without a slash in front or at the end, and without "..".',
    ),
    "file below a shared path": (
        {
            "gunicorn_app_shared_paths": ["data"],
            "gunicorn_app_files": [
                {"dest": "data/local.py", "content": "x"},
                {"dest": "database.py", "content": ""},
            ],
        },
        "data/local.py in gunicorn_app_files is below one of gunicorn_app_shared_paths, which belong to no "
        "release: take the file elsewhere, or the path out of the shared ones.",
    ),
    "environment that is no text": (
        {"gunicorn_app_environment": {"HOSTS": ["a", "b"], "NUMBER": 1, "FLAG": True, "MAP": {"a": "b"}}},
        "HOSTS, MAP in gunicorn_app_environment is a list or a mapping, and the environment has text only: turn it "
        "into text with to_json or join.",
    ),
    "command of several lines": (
        {"gunicorn_app_processes": [{"name": "worker", "command": ["python", "a\nb"]}]},
        "gunicorn_app_processes or gunicorn_app_timers has a command with an end of line or another control "
        "character, and a command of a unit is one line: put what needs more lines into a file of the project.",
    ),
    "probe of a path without a slash": (
        {"gunicorn_app_health": {"path": "readyz"}},
        'gunicorn_app_health.path is "readyz", which is no path of the site: begin it with a slash.',
    ),
    "status that is none": (
        {"gunicorn_app_health": {"status": ["200-399", "ok"]}},
        'gunicorn_app_health.status has "ok", which is no status: write numbers such as "200", or ranges such as '
        '"200-399".',
    ),
    "limit of memory in which nothing starts": (
        {"gunicorn_app_memory_megabytes": 1},
        "gunicorn_app_memory_megabytes is 1, in which no Django starts: set it to 64 or more, or to 0 for no limit.",
    ),
    "boolean as the command line has it": (
        {"gunicorn_app_bad_release_enabled": "true"},
        'gunicorn_app_bad_release_enabled is "true", which is not true or false: write one of the two without '
        "quotes, and after -e as JSON, '{\"gunicorn_app_bad_release_enabled\": true}'.",
    ),
    "misspelled key of a command": (
        {"gunicorn_app_build_commands": [{"command": "npm ci", "creats": "node_modules"}]},
        "gunicorn_app_build_commands[0].creats is not known: its keys are command, chdir, environment, creates, "
        "first_deploy_only.",
    ),
}


# Where there are several hosts, there is more to say about these.
WRONG_ALONE = {
    "short generated secret": (
        {"gunicorn_app_secrets": {"SECRET_KEY": {"length": 8}}},
        "SECRET_KEY in gunicorn_app_secrets is a mapping: it has length, a number of characters from 16 on, and "
        "perhaps chars, which ones.",
    ),
    "generated secret that would need escapes": (
        {"gunicorn_app_secrets": {"SECRET_KEY": {"length": 50, "chars": "ab$c"}}},
        "SECRET_KEY in gunicorn_app_secrets has chars with something else than letters, digits and the signs ! # % "
        "& ( ) * + , . / : ; < = > ? @ ^ _ { | } ~ -: leave that out.",
    ),
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> Run:
    """A run for as many hosts as there are wrong values, each with one of them and a site of its own."""
    hosts = {
        host(case): {"groundwork_site_domains": [f"{host(case)}.example.org"], **values}
        for case, (values, _sentence) in WRONG.items()
    }
    return validator(tmp_path_factory.mktemp("wrong"))(hosts=hosts)


def host(case: str) -> str:
    """The host that has a wrong value."""
    return f"h{list(WRONG).index(case)}"


@pytest.mark.parametrize("case", WRONG)
def test_wrong_value_is_told_in_one_sentence(wrong, case):
    assert wrong.by_host[host(case)] == {WRONG[case][1]}, wrong.output


def test_wrong_values_are_told_before_a_host_is_asked_anything(wrong):
    assert wrong.status != 0
    assert len(wrong.tasks) == 1
    assert "Traceback" not in wrong.output


@pytest.mark.parametrize("case", WRONG_ALONE)
def test_wrong_value_of_one_host_is_told_in_one_sentence(validate, case):
    values, sentence = WRONG_ALONE[case]
    run = validate(values)
    assert run.status != 0
    assert run.sentences == {sentence}, run.output
    assert len(run.tasks) == 1
    assert "Traceback" not in run.output


def test_more_threads_than_connections_are_told_with_the_arithmetic(validate):
    worker = {"name": "worker", "command": ["celery"], "count": 3}
    slots = {"gunicorn_app_workers": 160, "gunicorn_app_threads": 8, "gunicorn_app_processes": [worker]}
    run = validate({**slots, "postgres_max_connections_count": 500})
    assert run.sentences == {
        "The site may open 2 slots x 160 workers x 8 threads + 3 processes + 10 = 2573 connections, but "
        "postgres_max_connections_count is 500: raise it, or lower gunicorn_app_workers or gunicorn_app_threads."
    }
    assert [task for task in run.tasks if not HARMLESS.search(task)] == []


def test_a_pool_stands_in_for_the_threads(validate):
    slots = {"gunicorn_app_workers": 16, "gunicorn_app_threads": 8, "postgres_max_connections_count": 40}
    assert "= 266 connections, but postgres_max_connections_count is 40" in validate(slots).output.replace("\n", " ")
    run = validate({**POOL, **slots})
    assert run.status == 0, run.output


def test_a_pool_that_is_too_large_is_told_with_the_arithmetic(validate):
    run = validate({**POOL, "pgbouncer_pool_size": 30, "postgres_max_connections_count": 40})
    assert run.sentences == {
        "The pool may open 30 connections + 5 in reserve, and 10 may go past it, together 45, but the database "
        "takes 40: raise postgres_max_connections_count, or lower pgbouncer_pool_size."
    }, run.output


def test_more_threads_than_clients_of_the_pool(validate):
    run = validate({**POOL, "gunicorn_app_workers": 16, "gunicorn_app_threads": 8, "pgbouncer_clients_count": 100})
    assert run.sentences == {
        "The site may open 2 slots x 16 workers x 8 threads + 0 processes + 10 = 266 connections, but "
        "pgbouncer_clients_count is 100: raise it, or lower gunicorn_app_workers or gunicorn_app_threads."
    }, run.output


def test_all_wrong_values_are_told_at_once(validate):
    run = validate({"groundwork_ssh_port": 0, "groundwork_acme_webroot": "acme", "groundwork_site_name": "My Site"})
    assert len(run.sentences) == 3, run.output


def test_a_site_with_its_redis_passes(validate):
    run = validate(REDIS)
    assert run.status == 0, run.output


@pytest.mark.parametrize(
    ("name", "version", "is_told"), [("Debian", "12.9", True), ("Ubuntu", "22.04", True), ("Debian", "13.1", False)]
)
def test_sftp_is_refused_where_pgbackrest_does_not_know_it(validate, name, version, is_told):
    facts = {"distribution": name, "distribution_version": version}
    run = validate({**PHYSICAL, "backups_repositories": [SFTP]}, facts=facts)
    told = {
        f'backups_repositories has one of type "sftp", which pgBackRest knows from 2.46 on and {name} {version} has an '
        'older one: use "s3", or a newer release of the system.'
    }
    assert run.sentences == (told if is_told else set()), run.output


@pytest.mark.parametrize("caches", [[], ["h2"]], ids=["nowhere", "elsewhere"])
def test_a_site_whose_redis_is_on_another_host(validate, caches):
    run = validate(REDIS, hosts={"h1": {}}, caches=caches)
    assert run.sentences == {
        f"groundwork_redis_enabled is true, but {host} is in only one of the groups app and cache: a site reaches its "
        "Redis over a unix socket, so put every host of the site into both."
        for host in ["h1", *caches]
    }, run.output
    assert len(run.tasks) == 1


def test_two_sites_with_one_domain_in_an_inventory(validate):
    shop = {"groundwork_site_name": "shop", "groundwork_site_domains": ["shop.example.org", "forge.example.org"]}
    run = validate(hosts={"h1": {}, "h2": shop})
    assert run.sentences == {
        'groundwork_site_domains has "forge.example.org" for site forge on h1, but site shop on h2 has it too: '
        "a domain belongs to one site.",
        'groundwork_site_domains has "forge.example.org" for site shop on h2, but site forge on h1 has it too: '
        "a domain belongs to one site.",
    }, run.output
    assert len(run.tasks) == 1


def test_two_sites_with_one_domain_on_a_host(validate):
    placed = {"groundwork_shop": {"name": "shop", "domains": ["forge.example.org"], "user": "shop"}}
    run = validate(facts={"local": placed})
    assert run.sentences == {
        'groundwork_site_domains has "forge.example.org" for site forge on h1, but site shop on h1 has it too: '
        "a domain belongs to one site."
    }, run.output
    assert [task for task in run.tasks if not HARMLESS.search(task)] == []


def test_unsupported_system(validate):
    run = validate(facts={"distribution": "Ubuntu", "distribution_version": "20.04"})
    assert run.sentences == {
        "h1: Ubuntu 20.04 is not supported: use a host with Ubuntu 22.04, 24.04, 26.04; Debian 12, 13."
    }, run.output
    assert [task for task in run.tasks if not HARMLESS.search(task)] == []


def test_secret_is_not_shown_however_wrong_it_is(validate):
    run = validate({"groundwork_database_password": ["sentinel-value"]}, arguments=["-vvv", "--diff"])
    assert run.status != 0
    assert "groundwork_database_password is not text (its value is not shown)" in run.output
    assert "sentinel-value" not in run.output


def test_old_ansible(validate):
    """A real ansible-core of the last release that is not supported, kept in .cache."""
    folder = ROOT / ".cache" / "ansible-core-2.18"
    if not (folder / "bin" / "ansible-playbook").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "ansible-core==2.18.*"], check=True
        )
    run = validate(playbook=folder / "bin" / "ansible-playbook")
    (sentence,) = run.sentences
    assert re.fullmatch(r"ansible-core 2\.18\.\d+ is too old: groundwork\.django needs 2\.19 or newer; .*", sentence)
    assert len(run.tasks) == 1
    assert "Traceback" not in run.output
