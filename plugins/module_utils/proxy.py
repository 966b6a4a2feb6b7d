# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""nginx in front of the two slots: which one it sends requests to, and whether it has noticed."""

from __future__ import annotations

import os
import re
import time

from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, group_id, write_atomically
from ansible_collections.groundwork.django.plugins.module_utils.slots import SLOTS, Site, last_line

UPSTREAM = """\
# Managed by Ansible (groundwork.django.gunicorn_app): the live slot, replaced at each switch.
upstream {name} {{
    server unix:{socket} fail_timeout=0;
    keepalive 32;
}}
"""
TAKE_OVER_SECONDS = 15


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


class Proxy:
    """nginx as one site sees it.

    options: upstream_file (what names the live slot to nginx), proxy_user, proxy_test_command and
    proxy_reload_command (lists of words). An empty reload command stands for no proxy at all.
    """

    def __init__(self, site: Site, options: dict) -> None:
        self.site = site
        self.file: str = options["upstream_file"]
        self.user: str = options["proxy_user"]
        self.test_command: list[str] = options["proxy_test_command"]
        self.reload_command: list[str] = options["proxy_reload_command"]

    @property
    def enabled(self) -> bool:
        return bool(self.reload_command)

    def read(self) -> str:
        """Content of the upstream file; empty where there is none."""
        try:
            with open(self.file, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""

    def named(self) -> str:
        """The slot that the upstream file names; empty where it names none."""
        text = self.read()
        return next((slot for slot in SLOTS if f"unix:{self.site.socket(slot)}" in text), "")

    def knows_group(self) -> bool:
        """Whether nginx's workers may open the sockets: a new membership takes effect with the next workers."""
        group = group_id(self.site.user)
        alive = [worker for worker, ending in workers().items() if not ending]
        return group is None or not self.user or all(has_group(worker, group) for worker in alive)

    def is_stale(self) -> bool:
        """Whether requests would not reach the live slot."""
        return self.enabled and bool(self.site.live) and (self.named() != self.site.live or not self.knows_group())

    def wanted(self, slot: str) -> str:
        """The upstream file for a slot. What else stands in it stays."""
        text = self.read()
        for other in SLOTS:
            text = text.replace(f"unix:{self.site.socket(other)}", f"unix:{self.site.socket(slot)}")
        if f"unix:{self.site.socket(slot)}" in text:
            return text
        return UPSTREAM.format(name=self.site.name, socket=self.site.socket(slot))

    def point_to(self, slot: str) -> list[int]:
        """Send requests to a slot and return the old workers, which still finish theirs.

        Raises Refusal with a reason; then nginx goes on as before, and the upstream file is the old one.
        """
        if not self.enabled:
            return []
        before = self.read()
        existed = os.path.exists(self.file)
        write_atomically(self.file, self.wanted(slot).encode())
        try:
            code, output = run_merged(self.test_command) if self.test_command else (0, "")
            if code != 0:
                raise Refusal(f"the test of the web server's configuration failed: {last_error(output)}")
            old = [worker for worker, ending in workers().items() if not ending]
            code, output = run_merged(self.reload_command)
            if code != 0:
                raise Refusal(f"the web server could not be reloaded: {last_error(output)}")
            self.wait_for_new_workers(old)
        except Refusal:
            if existed:
                write_atomically(self.file, before.encode())
            else:
                os.unlink(self.file)
            raise
        return old

    @staticmethod
    def wait_for_new_workers(old: list[int]) -> None:
        """Wait until new workers have taken over. Raises Refusal when they do not."""
        if not old:
            return
        end = time.monotonic() + TAKE_OVER_SECONDS
        while time.monotonic() < end:
            alive = [worker for worker, ending in workers().items() if not ending]
            if alive and not set(alive) & set(old):
                return
            time.sleep(0.05)
        raise Refusal(f"the web server did not take up its new configuration within {TAKE_OVER_SECONDS} s")


def last_error(output: str) -> str:
    """The line of an output that tells most."""
    for line in output.splitlines():
        if "[emerg]" in line:
            return re.sub(r"^\s*\d+#\d+:\s*", "", line.partition("[emerg]")[2]).strip()
    return last_line(output) or "it said nothing"


def wait_for_end(old: list[int], seconds: float) -> bool:
    """Wait until old workers have finished their requests. Returns whether they have, in that time."""
    end = time.monotonic() + seconds
    while True:
        if not set(old) & set(workers()):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
