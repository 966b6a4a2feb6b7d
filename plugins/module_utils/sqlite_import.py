# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring an SQLite file to where the live release of a site can read it, and have it imported."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils import django_import, django_migrations
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, group_id, user_id
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

FUTURE = "from __future__ import annotations\n"
"""It may only begin a text."""


def program(path: str, replace: bool, dry: bool) -> str:
    """Python code for `manage.py shell` of a release, which answers with a line that answer() reads."""
    parts = [inspect.getsource(module).replace(FUTURE, "") for module in (django_migrations, django_import)]
    return "\n".join([FUTURE, *parts, f"import_rows({path!r}, look, {replace!r}, {dry!r})\n"])


def answer(output: str) -> dict:
    """What the program has said: `rows` by model, `replaced`, `left_out`. Raises Refusal."""
    for line in reversed(output.splitlines()):
        if line.startswith(django_import.IMPORT_MARK):
            said = json.loads(line[len(django_import.IMPORT_MARK) :])
            if "refused" in said:
                raise Refusal(said["refused"])
            return said
    raise Refusal("manage.py shell did not say what came of the import")


def telling(said: dict, site: str, dry: bool) -> str:
    """What came of the import, or would come of it, as one sentence."""
    rows = said["rows"]
    verb = "would be" if dry else "are"
    return f"{sum(rows.values())} rows of {len(rows)} models {verb} in the database of {site}; sessions stay behind."


@contextlib.contextmanager
def placed(site: Site, path: str) -> Iterator[str]:
    """Move a file to where only the site's user can read it, and remove it at the end.

    What a killed run has left there is removed first.
    """
    directory = os.path.join(site.directory, "import")
    user, group = user_id(site.user), group_id(site.user)
    if user is None or group is None:
        raise Refusal(f"The user {site.user} is not on the host: apply the whole site once first.")
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory, 0o750)
    try:
        os.chown(directory, 0, group)
        there = os.path.join(directory, "db.sqlite3")
        os.chmod(path, 0o600)
        shutil.move(path, there)
        os.chown(there, user, group)
        yield there
    finally:
        shutil.rmtree(directory)
