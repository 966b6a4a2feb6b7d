# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The audit log of a site: who did what to its releases, a line of JSON each."""

from __future__ import annotations

import json
import os
import time

from ansible_collections.groundwork.django.plugins.module_utils.files import group_id
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

FILE = "audit.jsonl"
"""Beside the logs of the releases; it stays when those are removed."""


def note(site: Site, event: str, run: dict, seconds: float, **facts: object) -> None:
    """Add a line. No reason of a failure is in it: that is in the log of the release, which only root can read.

    event: "released", "rolled back", "imported" or "failed". run: who began it, as `operator`. seconds: how long it
    took.
    """
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "site": site.name,
        "event": event,
        "operator": run.get("operator", ""),
        "seconds": round(seconds, 1),
        **facts,
    }
    os.makedirs(site.log_directory, mode=0o750, exist_ok=True)
    path = os.path.join(site.log_directory, FILE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    try:
        os.fchown(descriptor, -1, group_id("adm") or 0)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)
