"""What pgBackRest is told: repositories, secrets, and how the log is kept."""

import configparser
import fnmatch
import re

from render import SYSTEMS, evaluate, render

CONFIGURATION = "etc/pgbackrest/pgbackrest.conf.j2"
ARCHIVE = "etc/groundwork/postgres/archive.conf.j2"
UNIT = "etc/systemd/system/_unit_.service.j2"
DUMP_UNIT = "etc/systemd/system/_site_-backup.service.j2"
DUMP_SETTINGS = "etc/groundwork/backups/_site_.conf.j2"
PASSPHRASE = {"backups_physical_enabled": True, "backups_passphrase": "twenty-characters-and-more"}
LOCAL = {"type": "directory", "path": "/srv/backups"}
SFTP = {
    "type": "sftp",
    "path": "/forge",
    "host": "backup.example.org",
    "port": 2222,
    "user": "keeper",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----",
    "host_public_keys": ["ssh-ed25519 AAAA", "ssh-rsa AAAB"],
}
S3 = {
    "type": "s3",
    "path": "/forge",
    "host": "s3.example.org",
    "bucket": "forge",
    "region": "eu-1",
    "access_key": "id",
    "secret_key": "key",
    "certificate_authority": "-----BEGIN CERTIFICATE-----",
}


def options(**values) -> dict[str, str]:
    lines = render("backups", CONFIGURATION, **PASSPHRASE, **values).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_every_repository_is_encrypted_and_keeps_as_many_days():
    found = options(backups_repositories=[LOCAL, SFTP, S3], backups_retention_days=30)
    for name in ("repo1", "repo2", "repo3"):
        assert found[f"{name}-cipher-type"] == "aes-256-cbc"
        assert found[f"{name}-cipher-pass"] == PASSPHRASE["backups_passphrase"]
        assert (found[f"{name}-retention-full-type"], found[f"{name}-retention-full"]) == ("time", "30")
    assert [found[f"repo{number}-type"] for number in (1, 2, 3)] == ["posix", "sftp", "s3"]


def test_a_server_that_is_not_known_is_not_believed():
    found = options(backups_repositories=[SFTP, S3])
    assert found["repo1-sftp-host-key-check-type"] == "strict"
    assert found["repo2-storage-verify-tls"] == "y" and found["repo2-storage-ca-file"] == "/etc/pgbackrest/repo2.pem"
    values = {"template_item": {"name": "repo1", "value": SFTP}}
    known = render("backups", "etc/pgbackrest/_host_.known_hosts.j2", **values).splitlines()[-2:]
    assert known == ["[backup.example.org]:2222 ssh-ed25519 AAAA", "[backup.example.org]:2222 ssh-rsa AAAB"]


def test_options_that_old_releases_do_not_know_are_left_out_there():
    # pgBackRest 2.37 stops at an option that it does not know.
    assert not any("sftp" in name or "bundle" in name or "block" in name for name in options())


def test_small_files_go_together_to_an_sftp_server():
    # It opens about a thousand files for a connection, and pgBackRest closes none before its end.
    found = options(backups_repositories=[LOCAL, SFTP])
    assert found["repo2-bundle"] == "y" and "repo1-bundle" not in found


def test_the_log_leaves_the_server_in_less_than_a_minute():
    for system in SYSTEMS:
        lines = render("backups", ARCHIVE, system).splitlines()
        assert "archive_timeout = 50" in lines
        assert "archive_command = 'pgbackrest --stanza=main --pg1-path=\"$PWD\" archive-push %p'" in lines


def test_the_dump_is_made_by_a_role_of_its_own_and_its_unit_can_become_nobody_else():
    unit = render("backups", DUMP_UNIT)
    assert "CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n" in unit
    assert "user = forge_backup\n" in render("backups", DUMP_SETTINGS)
    assert evaluate("backups", "backups_database_readers") == [{"name": "forge_backup", "system_user": "root"}]


def test_the_superuser_makes_it_where_that_is_wanted():
    values = {"backups_database_role": "postgres"}
    assert "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SETGID CAP_SETUID\n" in render("backups", DUMP_UNIT, **values)
    assert "user = postgres\n" in render("backups", DUMP_SETTINGS, **values)
    assert evaluate("backups", "backups_database_readers", **values) == []


def test_a_backup_to_the_host_itself_has_no_network():
    def unit(**values) -> str:
        item = {"name": "x", "value": {"description": "x", "command": "run full", "timeout_minutes": 5}}
        return render("backups", UNIT, template_item=item, **PASSPHRASE, **values)

    assert "PrivateNetwork=yes" in unit()
    assert "ReadWritePaths=/srv/backups" in unit(backups_repositories=[LOCAL])
    assert "PrivateNetwork" not in unit(backups_repositories=[LOCAL, S3])


def facts_of(*sites: str) -> dict:
    return {"ansible_local": {f"groundwork_{site}-physical": {"stanza": "main"} for site in sites}}


def test_it_ends_with_the_last_site_that_wants_it():
    ends = "__backups_physical_ends"
    assert evaluate("backups", ends, facts=facts_of("forge")) is True
    assert evaluate("backups", ends, facts=facts_of("forge", "annex")) is False
    assert evaluate("backups", ends, facts=facts_of("annex")) is False
    assert evaluate("backups", ends, facts=facts_of()) is False
    assert evaluate("backups", ends, facts=facts_of("forge"), **PASSPHRASE) is False


def test_a_site_that_never_had_it_asks_nothing_about_it():
    units = [unit["name"] for unit in evaluate("backups", "__backups_started_units")]
    assert units == ["forge-backup.timer", "forge-backup.service"]
    stopped = [unit["name"] for unit in evaluate("backups", "__backups_stopped_units")]
    assert stopped == ["forge-files-backup.timer"]


FILES = {"backups_files_enabled": True, "backups_passphrase": "twenty-characters-and-more"}
FOLDER = "etc/groundwork/backups/_site_-files"


def file_settings(**values) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(render("backups", f"{FOLDER}/settings.conf.j2", **FILES, **values))
    return parser


def test_the_files_go_beside_the_cluster_and_each_site_has_its_own_repository():
    found = file_settings(backups_repositories=[LOCAL, SFTP, S3])
    assert [found[f"repo{number}"]["path"] for number in (1, 2, 3)] == [
        "/srv/backups-files/forge",
        "/forge-files/forge",
        "/forge-files/forge",
    ]
    assert found["repo3"]["bucket_lookup"] == "dns" and found["repo3"].getboolean("own_authority")
    assert not file_settings(backups_repositories=[{**S3, "certificate_authority": None}])["repo1"].getboolean(
        "own_authority"
    )
    directories = evaluate("backups", "__backups_site_directories", **FILES, backups_repositories=[LOCAL, S3])
    assert {"path": "/srv/backups-files/forge", "mode": "0700"} in directories


def test_the_settings_of_the_files_hold_no_secret():
    text = render("backups", f"{FOLDER}/settings.conf.j2", **FILES, backups_repositories=[LOCAL, SFTP, S3])
    assert FILES["backups_passphrase"] not in text and SFTP["private_key"] not in text
    assert not re.search(r"= (id|key)$", text, re.MULTILINE)


def test_ssh_believes_the_one_server_only_and_asks_nobody():
    item = {"name": "repo2", "value": SFTP}
    lines = render("backups", f"{FOLDER}/_sftp_.ssh.j2", **FILES, template_item=item).split("\n")
    told = dict(line.split(maxsplit=1) for line in map(str.strip, lines) if line and not line.startswith("#"))
    assert told["StrictHostKeyChecking"] == "yes" and told["GlobalKnownHostsFile"] == "none"
    assert (told["BatchMode"], told["Port"], told["User"]) == ("yes", "2222", "keeper")
    known = render("backups", f"{FOLDER}/_host_.known_hosts.j2", **FILES, template_item=item).splitlines()[-2:]
    assert known == ["[backup.example.org]:2222 ssh-ed25519 AAAA", "[backup.example.org]:2222 ssh-rsa AAAB"]
    # A comment before it is an error to OpenSSH.
    assert render("backups", f"{FOLDER}/_key_.key.j2", **FILES, template_item=item).startswith("-----BEGIN ")


def test_the_daily_backup_has_the_files_unless_restic_has_them():
    def directories(**values) -> str:
        text = render("backups", "etc/groundwork/backups/_site_.conf.j2", **values)
        return re.search(r"^file_directories =(.*)$", text, re.MULTILINE)[1].strip()

    assert directories() == "/var/lib/forge/media"
    assert directories(**FILES) == ""


def test_a_host_without_it_has_no_file_and_no_directory_of_it():
    unwanted = evaluate("backups", "__backups_site_unwanted_files")
    for path in (
        "/etc/groundwork/backups/forge-files/passphrase.txt",
        "/etc/systemd/system/forge-files-backup.service",
        "/etc/cron.d/forge-files-backup",
    ):
        assert any(fnmatch.fnmatchcase(path, pattern) for pattern in unwanted)
    assert len(evaluate("backups", "__backups_site_directories")) == 1
    assert evaluate("backups", "backups_packages") == []
    assert evaluate("backups", "backups_packages", **FILES) == ["restic"]
    assert evaluate("backups", "backups_packages", **FILES, backups_repositories=[SFTP]) == ["restic", "openssh-client"]
