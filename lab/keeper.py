"""A server that keeps the backups of another host: of ssh, or of S3. Standard library only."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import hosts

MAKE = """
set -e
useradd --home-dir / --shell /usr/sbin/nologin --password '*' keeper
mkdir -p /srv/vault/keep /srv/vault/keep-files && chown keeper: /srv/vault/*
cat > /etc/ssh/keeper_keys
printf '%s\\n' 'Match User keeper' 'AuthorizedKeysFile /etc/ssh/keeper_keys' 'ChrootDirectory /srv/vault' \
  'ForceCommand internal-sftp' > /etc/ssh/sshd_config.d/keeper.conf
systemctl restart ssh
"""


def start_ssh(name: str, network: str, folder: Path, image: str, aliases: tuple[str, ...] = ()) -> dict:
    """Start one of ssh and return the entry of backups_repositories that leads to it, by its first alias or its name.

    Its key is made in `folder`: of a kind that pgBackRest takes as well, RSA in PEM form.
    """
    hosts.start_host(name, network, image, aliases=aliases)
    hosts.wait_for_host(name)
    key = folder / "keeper"
    if not key.exists():
        kind = ["-t", "rsa", "-b", "3072", "-m", "PEM"]
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-f", str(key)], check=True)
    hosts.docker("exec", "-i", name, "sh", "-c", MAKE, stdin=key.with_suffix(".pub").read_text())
    public = hosts.docker("exec", name, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub")
    return {
        "type": "sftp",
        "path": "/keep",
        "host": (*aliases, name)[0],
        "user": "keeper",
        "private_key": key.read_text(),
        "host_public_keys": [" ".join(line.split()[:2]) for line in public.splitlines()],
    }


def start_s3(name: str, network: str, alias: str) -> dict:
    """Start one of S3 and return the entry of backups_repositories that leads to it by its alias.

    It keeps all that it gets in memory, and takes any key.
    """
    hosts.start_bucket(name, network, alias)
    hosts.wait_for_bucket(name)
    return {
        "type": "s3",
        "path": "/keep",
        "host": alias,
        "bucket": "vault",
        "region": "eu-1",
        "uri_style": "path",
        "access_key": "keeper",
        "secret_key": secrets.token_urlsafe(40),
        "certificate_authority": hosts.docker("exec", name, "cat", "/bucket/cert.pem"),
    }
