"""A host is destroyed; an empty one, the vault and a repository beyond both bring back rows, files and the certificate.

It comes last, since the host of the tests before it is gone then.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import keeper as keepers
import pytest
from machine import DOMAINS, HOST, IMAGE, NETWORK, Machine, hosts

KEEPER = "groundwork-site-keeper"
PHOTO = "/var/lib/forge/media/photo.bin"

pytestmark = pytest.mark.skipif("debian-12" in IMAGE, reason="its pgBackRest does not know sftp")


@pytest.fixture(scope="module")
def keeper(machine: Machine) -> Iterator[dict]:
    """A host that keeps the backups, and the entry of backups_repositories that leads to it."""
    try:
        yield keepers.start_ssh(KEEPER, NETWORK, machine.folder, IMAGE)
    finally:
        hosts.remove([KEEPER])


def sql(machine: Machine, statement: str) -> str:
    """Answer of a statement in the site's database."""
    return machine.shell(f"runuser -u postgres -- psql -XAtqd forge -c {statement!r}").strip()


def rebuild(machine: Machine) -> None:
    """Destroy the host, and have an empty one in its place."""
    hosts.remove([HOST])
    hosts.start_host(HOST, NETWORK, IMAGE, aliases=DOMAINS.values())
    machine.address = hosts.reach(HOST, NETWORK, machine.folder)


def test_a_host_that_is_lost_comes_back_with_its_rows_its_files_and_its_certificate(converged, keeper):
    machine = converged
    machine.inventory(
        "forge",
        backups_physical_enabled=True,
        backups_files_enabled=True,
        backups_passphrase=secrets.token_urlsafe(40),
        backups_repositories=[keeper],
    )
    machine.play("forge")
    machine.shell("while systemctl is-active -q groundwork-backup-full; do sleep 0.5; done")
    machine.shell(f"head -c 100000 /dev/urandom > {PHOTO} && chown forge: {PHOTO} && chmod 640 {PHOTO}")
    machine.play("forge", playbook="playbooks/backup.yml")
    # Written after the last backup: it is in the log only.
    sql(machine, "CREATE TABLE late AS SELECT 42 AS answer")
    sql(machine, "SELECT pg_switch_wal()")
    machine.shell(
        'until [ "$(runuser -u postgres -- psql -XAtqd forge -c '
        '"SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE \'%.ready\'")" = 0 ]; do sleep 0.5; done'
    )
    photo = machine.shell(f"sha256sum {PHOTO}; stat -c '%U %G %a' {PHOTO}")
    status, _body, before = machine.get("/readyz")
    assert status == 200

    rebuild(machine)
    machine.play("forge", "-e", "restore_to=latest", "-e", "restore_what=both", playbook="playbooks/restore.yml")
    machine.play("forge")
    assert sql(machine, "SELECT answer FROM late") == "42"
    assert machine.shell(f"sha256sum {PHOTO}; stat -c '%U %G %a' {PHOTO}") == photo
    status, _body, after = machine.get("/readyz")
    assert status == 200
    # The authority was not asked again.
    assert after["serialNumber"] == before["serialNumber"]
    assert machine.play("forge").total("changed") == 0
