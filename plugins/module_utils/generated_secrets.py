# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets that a host makes for a site once, and keeps for ever."""

from __future__ import annotations

import os
import secrets
import string

from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_json, write_json

CHARACTERS = string.ascii_letters + string.digits
DIRECTORY = "/etc/groundwork/gunicorn_app"


class GeneratedSecrets:
    """The generated secrets of a site, by name; they lie in a file that only root can read.

    site: its name.
    """

    def __init__(self, site: str, directory: str = DIRECTORY) -> None:
        self.path = os.path.join(directory, f"{site}.secrets.json")

    def kept(self) -> dict[str, str]:
        """Those that have been made. Raises Refusal where the file is not what was written."""
        found = read_json(self.path)
        if not found and os.path.isfile(self.path):
            raise Refusal(
                f"{self.path} holds the secrets that were made for the site and cannot be read as JSON: restore it "
                "from a backup, or remove it to have new ones made"
            )
        return found

    def make(self, wanted: dict[str, dict]) -> dict[str, str]:
        """Make those that are missing, and return all that are wanted. Raises Refusal.

        wanted: name -> {length: number of characters, chars: which ones, letters and digits unless given}.
        """
        kept = self.kept()
        missing = {name: made(**form) for name, form in wanted.items() if name not in kept}
        if missing:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            write_json(self.path, {**kept, **missing}, 0o600)
        return {name: {**kept, **missing}[name] for name in wanted}


def made(length: int, chars: str = CHARACTERS) -> str:
    """A random text of some length, of some characters."""
    return "".join(secrets.choice(chars) for _ in range(int(length)))


def environment(values: dict[str, str]) -> str:
    """Lines of an environment file for systemd. The characters have been checked: none needs an escape."""
    return "".join(f'{name}="{value}"\n' for name, value in sorted(values.items()))
