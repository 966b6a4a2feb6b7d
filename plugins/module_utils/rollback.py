# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which release a site can go back to."""

from __future__ import annotations

import os

from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_json, write_json
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

FILE = "history.json"
"""The releases that served, the newest first, without those that somebody went back from; it outlives them."""


def history(site: Site) -> list[str]:
    """The releases that served, the newest first."""
    return read_json(os.path.join(site.directory, FILE)).get("served", [])


def remember(site: Site, release_id: str, *, back: bool) -> str:
    """Note that a release is about to serve, after those before it or as one of them. Returns the one before it."""
    served = history(site)
    left = site.linked(site.live) if site.live else ""
    if left and left not in served:
        served.insert(0, left)
    if back and release_id in served:
        served = served[served.index(release_id) :]
    else:
        served = [release_id, *(name for name in served if name != release_id)]
    write(site, served)
    return next(iter(served[1:]), "")


def forget(site: Site, removed: list[str]) -> None:
    """Note that releases are no longer on the host."""
    served = history(site)
    left = [name for name in served if name not in removed]
    if left != served:
        write(site, left)


def write(site: Site, served: list[str]) -> None:
    """Keep which releases served."""
    write_json(os.path.join(site.directory, FILE), {"served": served}, 0o640)


def earlier(site: Site) -> list[str]:
    """The releases that served before the live one, the last one first."""
    served = history(site)
    live = site.live_release
    return served[served.index(live) + 1 :] if live in served else served


def kept(site: Site) -> list[str]:
    """The releases on the host that are whole, the newest first."""
    root = os.path.join(site.directory, "releases")
    names = [name for name in os.listdir(root) if site.is_complete(name)] if os.path.isdir(root) else []
    return sorted(names, key=lambda name: site.facts(name).get("completed", ""), reverse=True)


def live(site: Site) -> str:
    """The live release. Raises Refusal where there is none that is whole."""
    if not site.live_release:
        raise Refusal(f"{site.name} has no live release that is whole: run the site to get one.")
    return site.live_release


def target(site: Site, wanted: str) -> str:
    """The release to go back to: the one wanted, or else the last good one before the live one. Raises Refusal."""
    serving = live(site)
    whole = [name for name in kept(site) if name != serving]
    good = [name for name in whole if not site.facts(name).get("bad")]
    if not wanted:
        before = [name for name in earlier(site) if name in good]
        if before:
            return before[0]
        others = ", ".join(name if name in good else f"{name} (bad)" for name in whole)
        raise Refusal(
            f"{site.name} has no good release that served before {serving}; on the host "
            + (f"are {others} beside it: " if others else "is no other one: ")
            + ("name one with -e groundwork_release=<id>." if good else "release a correction instead.")
        )
    if wanted == serving:
        raise Refusal(f"groundwork_release is {wanted}, which is the live release of {site.name} already.")
    choose = (
        f"choose one of {', '.join(good)}"
        if good
        else "there is no good one beside the live one; release a correction instead"
    )
    if wanted not in whole:
        raise Refusal(f"groundwork_release is {wanted}, which is not on the host: {choose}.")
    if wanted not in good:
        bad = site.facts(wanted)["bad"]
        raise Refusal(
            f"groundwork_release is {wanted}, which is marked bad since {bad['since']}, when {bad['operator']} went "
            f"back from it: {choose}."
        )
    return wanted
