# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about a whole site and its hosts that no single variable can state. Each returns or yields sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

OLDEST_ANSIBLE = (2, 19)
OLDEST_PYTHON = (3, 11)
SUPPORTED_SYSTEMS = {"Ubuntu": ("22.04", "24.04", "26.04"), "Debian": ("12", "13")}

_RESERVED = """
acme adm admin all ansible apache apport apt at backup backups bin btmp certbot chrony cloud containerd
credentials cron current daemon dbus debian default dhcp dhcpcd django docker dpkg fail2ban ftp games git gnats
grafana groundwork grub gunicorn http https installer irc journal landscape lastlog letsencrypt list localhost
lock log logrotate lost_found lp lxd mail man media messagebus misc monitoring mount network news nginx nobody
node_exporter none ntp pam pgbouncer plymouth polkit postgres postgresql private prometheus proxy public python
redis replication root run samegroup samerole sameuser screen shm snap snapd srv ssh sshd staff static sudo sync
sys syslog systemd template0 template1 tftp tmp ubuntu ucf udev udisks2 ufw upstream user users utmp uucp
vagrant vim wtmp www
"""
#: Names that the system, its packages, PostgreSQL's access rules or this collection use for a user, a unit, a database
#: or a directory in /srv, /run, /var/lib or /var/log.
RESERVED_NAMES = frozenset(_RESERVED.split())

_SITE_NAME = re.compile(r"[a-z][a-z0-9_]{1,30}\Z")


class Site(NamedTuple):
    """A site somewhere: its name, its domains, the host it is on, the user it runs as ("" if not known)."""

    name: str
    domains: tuple[str, ...]
    host: str
    user: str = ""


def ansible_too_old(version: str) -> str | None:
    """A sentence when ansible-core ``version`` ("2.18.1") is older than the oldest supported one."""
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found >= OLDEST_ANSIBLE:
        return None
    oldest = ".".join(map(str, OLDEST_ANSIBLE))
    return (
        f"ansible-core {version} is too old: groundwork.django needs {oldest} or newer; "
        "`make setup` puts one into .venv, or install it with your package manager or pipx."
    )


def python_too_old(version: Sequence[int]) -> str | None:
    """A sentence when the controller's Python ``version`` (3, 10, 4) is older than the oldest supported one."""
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return None
    found, oldest = (".".join(map(str, numbers)) for numbers in (version[:3], OLDEST_PYTHON))
    return f"Python {found} on the controller is too old: groundwork.django needs {oldest} or newer."


def unsupported_system(facts: Mapping[str, object]) -> str | None:
    """A sentence when the host's release is not a supported one; None also when ``facts`` do not tell it."""
    name = facts.get("distribution")
    version = str(facts.get("distribution_version") or "")
    if not name:
        return None
    supported = SUPPORTED_SYSTEMS.get(str(name), ())
    if any(version == release or version.startswith(f"{release}.") for release in supported):
        return None
    listed = "; ".join(f"{system} {', '.join(releases)}" for system, releases in SUPPORTED_SYSTEMS.items())
    return f"{name} {version or '(release unknown)'} is not supported: use a host with {listed}."


def site_name_faults(name: str) -> Iterator[str]:
    """Sentences about groundwork_site_name, from which a user, units, a database and directories take their names."""
    if not _SITE_NAME.match(name):
        yield (
            f'groundwork_site_name is "{name[:60]}", which cannot name a user, a database and directories: write '
            f"2 to 31 "
            "lower-case letters, digits and underscores, with a letter first."
        )
    elif name in RESERVED_NAMES or name.startswith(("pg_", "systemd_", "_")):
        yield (
            f'groundwork_site_name is "{name}", a name that the system uses itself: choose another one, '
            f'like "{name[:25]}_site".'
        )


def domain_faults(domains: Sequence[str], tls_mode: str) -> Iterator[str]:
    """Sentences about groundwork_site_domains as a whole: a name given twice, a name no public CA issues for."""
    seen: set[str] = set()
    for domain in domains:
        folded = str(domain).lower()
        if folded in seen:
            yield f'groundwork_site_domains has "{folded}" twice: remove one of them.'
        seen.add(folded)
        if tls_mode == "acme" and "." not in folded:
            yield (
                f'groundwork_site_domains has "{folded}", for which no ACME server issues a certificate: write '
                f"the full "
                "name, or set groundwork_tls_mode to selfsigned or provided."
            )


def shared_domains(site: Site, others: Iterable[Site]) -> Iterator[str]:
    """Sentences about domains of ``site`` that another site claims: on another host or already on this one."""
    own = {domain.lower() for domain in site.domains}
    said: set[tuple[str, str]] = set()
    for other in others:
        if other.name == site.name:
            continue
        for domain in sorted(own & {domain.lower() for domain in other.domains}):
            if (other.name, domain) in said:
                continue
            said.add((other.name, domain))
            yield (
                f'groundwork_site_domains has "{domain}" for site {site.name} on {site.host}, but site {other.name} on '
                f"{other.host} has it too: a domain belongs to one site."
            )
        if other.user and other.user == site.user and other.host == site.host:
            yield (
                f'groundwork_site_user is "{site.user}", but site {other.name} on {other.host} runs as that user: '
                "give each site a user of its own."
            )


def placed_sites(facts: Mapping[str, object], host: str) -> Iterator[Site]:
    """The sites that earlier runs placed on the host, from its facts.d files ``groundwork_<site>.fact``."""
    local = facts.get("ansible_local")
    for key, fact in (local if isinstance(local, Mapping) else {}).items():
        if not str(key).startswith("groundwork_") or not isinstance(fact, Mapping) or not fact.get("name"):
            continue
        domains = fact.get("domains")
        names = tuple(str(domain) for domain in domains) if isinstance(domains, (list, tuple)) else ()
        yield Site(str(fact["name"]), names, host, str(fact.get("user") or ""))


def database_faults(host: str, password: object) -> Iterator[str]:
    """A sentence when the database is on another host and there is no password to reach it with."""
    if host and not password:
        yield (
            f'groundwork_database_password is not set, but groundwork_database_host is "{host}": put the password '
            f"into the "
            "vault.yml of the environment, in group_vars."
        )
