# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The web server in front of the two slots: which one it sends requests to, and what is still open to the other.

It connects to a link that leads to the socket of the live slot, so a switch is one rename and the web server is not
touched. Connections that it keeps stay with the old slot; docs/decisions/0005-switch.md says why that loses nothing.
"""

from __future__ import annotations

import os
import re
import time

from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, group_id
from ansible_collections.groundwork.django.plugins.module_utils.slots import SLOTS, Site, last_line, link, read_link

TAKE_OVER_SECONDS = 15
CONNECTED = "03"
"""State of a connected socket in /proc/net/unix."""


def workers() -> dict[int, bool]:
    """Numbers of nginx's worker processes on this host (not of its containers), and whether each is about to end."""
    own = os.readlink("/proc/self/ns/pid")
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                title = stream.read(64)
            if title.startswith(b"nginx: worker process") and os.readlink(f"/proc/{name}/ns/pid") == own:
                found[int(name)] = b"shutting down" in title
        except OSError:
            continue
    return found


def has_group(worker: int, group: int) -> bool:
    """Whether a process is a member of a group; True for a process that has ended."""
    try:
        with open(f"/proc/{worker}/status", encoding="ascii", errors="replace") as stream:
            status = stream.read()
    except OSError:
        return True
    match = re.search(r"^Groups:(.*)$", status, re.MULTILINE)
    return match is None or str(group) in match.group(1).split()


def connections(path: str) -> int:
    """How many connections are open to a socket."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as stream:
        entries = (line.rstrip("\n").split(maxsplit=7) for line in stream)
        return sum(1 for entry in entries if len(entry) == 8 and entry[5] == CONNECTED and entry[7] == path)


class Proxy:
    """The web server as one site sees it.

    options: socket_file (the link that it connects to), proxy_user (of its workers) and proxy_reload_command (words),
    which has nginx start new workers; an empty one stands for no nginx on this host.
    """

    def __init__(self, site: Site, options: dict) -> None:
        self.site = site
        self.file: str = options["socket_file"]
        self.user: str = options["proxy_user"]
        self.reload_command: list[str] = options["proxy_reload_command"]

    def named(self) -> str:
        """The slot that requests go to; empty where there is none."""
        target = read_link(self.file)
        return next((slot for slot in SLOTS if target == self.site.socket(slot)), "")

    def knows_group(self) -> bool:
        """Whether nginx's workers may open the sockets: a new membership takes effect with the next workers."""
        group = group_id(self.site.user)
        if group is None or not self.user or not self.reload_command:
            return True
        return all(has_group(worker, group) for worker, ending in workers().items() if not ending)

    def is_stale(self) -> bool:
        """Whether requests would not reach the live slot."""
        return bool(self.site.live) and (self.named() != self.site.live or not self.knows_group())

    def point_to(self, slot: str) -> None:
        """Send requests to a slot. Raises Refusal, with requests going where they went before."""
        if not self.knows_group():
            self.renew_workers()
        link(self.site.socket(slot), self.file)

    def renew_workers(self) -> None:
        """Have nginx start workers that are members of the site's group. Raises Refusal."""
        old = {worker for worker, ending in workers().items() if not ending}
        code, output = run_merged(self.reload_command)
        if code != 0:
            raise Refusal(f"the web server could not be reloaded: {last_line(output) or 'it said nothing'}")
        end = time.monotonic() + TAKE_OVER_SECONDS
        while old:
            alive = {worker for worker, ending in workers().items() if not ending}
            if alive and not alive & old:
                return
            if time.monotonic() > end:
                raise Refusal(f"the web server did not start new workers within {TAKE_OVER_SECONDS} s")
            time.sleep(0.05)

    def wait_for_end(self, slot: str, seconds: float) -> bool:
        """Wait until nothing is open to a slot that requests no longer go to. Returns whether that came, in time."""
        end = time.monotonic() + seconds
        while connections(self.site.socket(slot)):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True
