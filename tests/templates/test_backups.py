"""What pgBackRest is told: repositories, secrets, and how the log is kept."""

from render import SYSTEMS, evaluate, render

CONFIGURATION = "etc/pgbackrest/pgbackrest.conf.j2"
ARCHIVE = "etc/groundwork/postgres/archive.conf.j2"
UNIT = "etc/systemd/system/_unit_.service.j2"
PASSPHRASE = {"backups_physical_enabled": True, "backups_passphrase": "twenty-characters-and-more"}
LOCAL = {"type": "directory", "path": "/srv/backups"}
SFTP = {
    "type": "sftp",
    "path": "/forge",
    "host": "backup.example.org",
    "port": 2222,
    "user": "keeper",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----",
    "host_public_key": "ssh-ed25519 AAAA",
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
    known = render("backups", "etc/pgbackrest/_host_.known_hosts.j2", **values).splitlines()[-1]
    assert known == "[backup.example.org]:2222 ssh-ed25519 AAAA"


def test_options_that_old_releases_do_not_know_are_left_out_there():
    # pgBackRest 2.37 stops at an option that it does not know.
    assert not any("sftp" in name or "bundle" in name or "block" in name for name in options())


def test_the_log_leaves_the_server_in_less_than_a_minute():
    for system in SYSTEMS:
        lines = render("backups", ARCHIVE, system).splitlines()
        assert "archive_timeout = 50" in lines
        assert "archive_command = 'pgbackrest --stanza=main --pg1-path=\"$PWD\" archive-push %p'" in lines


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
    assert units == ["forge-backup.timer"]
    assert evaluate("backups", "__backups_stopped_units") == []
