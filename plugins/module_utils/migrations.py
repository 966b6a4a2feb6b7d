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


def question(migrate: bool = False, check: bool = False) -> str:
    """Python code for `manage.py shell` of a release, which answers with a line that answer() reads.

    migrate: whether it runs `migrate` as well where that changes nothing; check: whether it checks the project before
    all else, after which passed() is true. Each saves a start of Django.
    """
    calls = [django_migrations.check] if check else []
    calls.append(django_migrations.report_and_migrate if migrate else django_migrations.report)
    return inspect.getsource(django_migrations) + "".join(f"\n{call.__name__}()" for call in calls)


def passed(output: str) -> bool:
    """Whether a release has said that its check has passed."""
    return django_migrations.CHECKED in output.splitlines()


def answer(output: str) -> dict:
    """What a release has said: `known`, `applied`, `squashed` (names), `pending` by name. Raises Refusal."""
    for line in reversed(output.splitlines()):
        if line.startswith(django_migrations.MARK):
            return json.loads(line[len(django_migrations.MARK) :])
    raise Refusal("manage.py shell did not say which migrations the release has")


def keep(site: Site, release_id: str, said: dict) -> dict:
    """Keep what a release has said before it migrates. Returns what the site's other hosts have to learn."""
    told = {name: {"release": release_id, **what} for name, what in said["pending"].items()}
    for name in said["squashed"]:
        told[name] = {"release": release_id, "creates": [], "misfits": []}
    # Of one that is yet to come, the newest word counts: it may have been mended since it was last looked at.
    found = {"done": {**read_json(os.path.join(site.directory, FILE)), **told}, "foreign": foreign(said)}
    learn(site, release_id, found)
    return found


def learn(site: Site, release_id: str, found: dict) -> None:
    """Keep what has been found: with the site what migrations do, with the release those that it found there."""
    if "foreign_migrations" not in site.facts(release_id):
        site.note(release_id, foreign_migrations=found["foreign"])
    path = os.path.join(site.directory, FILE)
    known = read_json(path)
    if known != {**known, **found["done"]}:
        write_json(path, {**known, **found["done"]}, 0o640)


def foreign(said: dict) -> list[str]:
    """Migrations of the database that a release has not: of applications that are gone, or of newer releases."""
    return sorted(set(said["applied"]) - set(said["known"]))


def obstacles(site: Site, release_id: str, said: dict) -> list[str]:
    """Why a release cannot live with the database, from what it has said: one entry for each migration, by name."""
    kept = read_json(os.path.join(site.directory, FILE))
    # What was there already when the release first came into service did not hurt it then.
    there = site.facts(release_id).get("foreign_migrations", [])
    unknown = [name for name in foreign(said) if name not in there]
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
