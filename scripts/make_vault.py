#!/usr/bin/env python3
"""Make the encrypted secrets of an environment: group_vars/<environment>/vault.yml and its password file.

Usage: scripts/make_vault.py ENVIRONMENT

Every `vault_*` name that group_vars/<environment>/*.yml mentions gets a random value of 50 characters.
An existing vault is completed, never overwritten: names it has keep their values.
The password is kept in .vault-password-<environment> (mode 0600, ignored by git).
"""

from __future__ import annotations

import os
import re
import secrets
import string
import sys
from pathlib import Path

import yaml
from ansible.parsing.vault import VaultEditor, VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parent.parent
SECRET_LENGTH = 50
ALPHABET = string.ascii_letters + string.digits


def wanted_names(directory: Path) -> list[str]:
    """Return the vault_* names that the environment's files use, sorted."""
    texts = (path.read_text() for path in sorted(directory.glob("*.yml")) if path.name != "vault.yml")
    return sorted({name for text in texts for name in re.findall(r"\bvault_[a-z0-9_]+", text)})


def password_of(path: Path) -> bytes:
    """Return the vault password in path; make one when there is none."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
    return path.read_bytes().strip()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace path by data in one step, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def make_vault(root: Path, environment: str) -> str:
    """Make or complete the vault of an environment; return what was done, in one sentence."""
    directory = root / "group_vars" / environment
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", environment) or not directory.is_dir():
        known = ", ".join(sorted(path.name for path in (root / "group_vars").iterdir() if path.is_dir()))
        raise SystemExit(f'There is no environment "{environment}" in group_vars/; there are: {known}.')
    names = wanted_names(directory)
    vault_file = directory / "vault.yml"
    password_file = root / f".vault-password-{environment}"
    if vault_file.exists() and not password_file.exists():
        raise SystemExit(f"{vault_file.relative_to(root)} exists, but its password file {password_file.name} does not.")
    secret = VaultSecret(password_of(password_file))
    vault = VaultLib([("default", secret)])
    values: dict[str, str] = {}
    if vault_file.exists():
        values = yaml.safe_load(VaultEditor(vault).plaintext(str(vault_file))) or {}
    missing = [name for name in names if name not in values]
    for name in missing:
        values[name] = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    if missing:
        text = "---\n" + yaml.safe_dump(values, default_flow_style=False)
        write_atomically(vault_file, vault.encrypt(text.encode(), secret=secret))
    where = vault_file.relative_to(root)
    use = f"export ANSIBLE_VAULT_PASSWORD_FILE={password_file.name}"
    made = f"{where}: {len(missing)} secrets made ({', '.join(missing) or 'none was missing'})."
    return f"{made}\nKeep {password_file.name} where you keep passwords; then: {use}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    print(make_vault(ROOT, sys.argv[1]))
