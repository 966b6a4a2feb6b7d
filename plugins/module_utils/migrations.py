# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which migrations the releases of a site bring, and whether a release can live with those in the database."""

from __future__ import annotations

import inspect
import json
import os

from ansible_collections.groundwork.django.plugins.module_utils import django_migrations
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_json, write_json
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

FILE = "migrations.json"
"""What each migration does that older code cannot live with; it outlives the releases that brought them."""


def question() -> str:
    """Python code for `manage.py shell` of a release, which answers with a line that answer() reads."""
    return inspect.getsource(django_migrations) + "\nreport()\n"


def answer(output: str) -> dict:
    """What a release has said: `known`, `applied` and `heads` (names), `pending` by name. Raises Refusal."""
    for line in reversed(output.splitlines()):
        if line.startswith(django_migrations.MARK):
            return json.loads(line[len(django_migrations.MARK) :])
    raise Refusal("manage.py shell did not say which migrations the release has")


def keep(site: Site, release_id: str, said: dict) -> None:
    """Keep what a release has said: its heads with the release, what its migrations do with the site."""
    site.note(release_id, migration_heads=said["heads"])
    path = os.path.join(site.directory, FILE)
    known = read_json(path)
    new = {name: {"release": release_id, **what} for name, what in said["pending"].items() if name not in known}
    if new:
        write_json(path, {**known, **new}, 0o640)


def obstacles(site: Site, said: dict) -> list[str]:
    """Why a release cannot live with the database, from what it has said: one entry for each migration, by name."""
    kept = read_json(os.path.join(site.directory, FILE))
    unknown = sorted(set(said["applied"]) - set(said["known"]))
    # Older code does not know these models, so nothing about them can hurt it.
    created = {model for name in unknown for model in kept.get(name, {}).get("creates", [])}
    found = []
    for name in unknown:
        if name not in kept:
            found.append(f"{name} (nothing is known of what it does)")
            continue
        words = [words for model, words in kept[name]["misfits"] if model not in created]
        if words:
            found.append(f"{name} ({'; '.join(words)})")
    return found
