# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which release a site can go back to."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site


def earlier(site: Site) -> Iterator[str]:
    """The releases that served before the live one, the last one first, each once."""
    seen = {site.live_release}
    release_id = str(site.facts(site.live_release).get("previous") or "")
    while release_id and release_id not in seen:
        seen.add(release_id)
        yield release_id
        release_id = str(site.facts(release_id).get("previous") or "")


def kept(site: Site) -> list[str]:
    """The releases on the host that are whole, the newest first."""
    root = os.path.join(site.directory, "releases")
    names = [name for name in os.listdir(root) if site.is_complete(name)] if os.path.isdir(root) else []
    return sorted(names, key=lambda name: site.facts(name).get("completed", ""), reverse=True)


def target(site: Site, wanted: str) -> str:
    """The release to go back to: the one wanted, or else the last good one before the live one. Raises Refusal."""
    if not site.live_release:
        raise Refusal(f"{site.name} has no live release that is whole: run the site to get one.")
    whole = kept(site)
    listed = ", ".join(name + (" (bad)" if site.facts(name).get("bad") else "") for name in whole)
    if not wanted:
        good = [name for name in earlier(site) if name in whole and not site.facts(name).get("bad")]
        if not good:
            raise Refusal(f"{site.name} has no good release before {site.live_release}; on the host are {listed}.")
        return good[0]
    if wanted == site.live_release:
        raise Refusal(f"groundwork_release is {wanted}, which is the live release of {site.name} already.")
    if wanted not in whole:
        raise Refusal(f"groundwork_release is {wanted}, which is not on the host: choose one of {listed}.")
    bad = site.facts(wanted).get("bad")
    if bad:
        raise Refusal(
            f"groundwork_release is {wanted}, which is marked bad since {bad['since']}, when {bad['operator']} went "
            f"back from it: choose another one of {listed}."
        )
    return wanted
