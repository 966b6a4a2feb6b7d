"""What Lynis and `systemd-analyze security` say of a host. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Callable

from hosts import HostError

FOLDERS = ("usr/share/lynis", "usr/sbin/lynis", "etc/lynis")
"""What Lynis is made of, below / of a container that has it."""
PLACE = "/root/lynis"
"""Where these are copied to on the host."""
SHARE = f"{PLACE}/usr/share/lynis"
AUDIT = (
    f"cp {PLACE}/usr/sbin/lynis {SHARE}/ && mkdir -p {SHARE}/plugins && cd {SHARE} && "
    f"./lynis audit system --quick --no-colors --profile {PLACE}/etc/lynis/default.prf"
)
REMOVE = f"rm -rf {PLACE} /var/log/lynis*"


def index(said: str) -> int:
    """Return the hardening index out of what Lynis has said. Raise HostError where it has come to none."""
    if not (found := re.search(r"Hardening index : (\d+)", said)):
        raise HostError(f"Lynis has come to no index; its last words: {said[-500:]}")
    return int(found[1])


def exposures(shell: Callable[[str], str]) -> dict[str, float]:
    """Return the exposure of each unit that the collection has put on a host, 0 to 10, by the unit's name.

    `shell` runs a shell command on the host and returns its output. Raises HostError where one is without a figure.
    """
    shipped = shell("cd /etc/systemd/system && grep -l groundwork.django *.service").split()
    units = [unit.replace("@.", "@x.") for unit in shipped]
    said = shell(f"for unit in {' '.join(units)}; do systemd-analyze security --no-pager $unit; done | cat")
    levels = {name: float(level) for name, level in re.findall(r"exposure level for (\S+): ([0-9.]+)", said)}
    if missing := sorted(set(units) - set(levels)):
        raise HostError(f"systemd-analyze security has no figure for {', '.join(missing)}")
    return levels
