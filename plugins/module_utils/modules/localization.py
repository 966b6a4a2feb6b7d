# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module localization does on the host."""

from __future__ import annotations

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text, write_atomically

ZONES = "/usr/share/zoneinfo"
LOCALTIME = "/etc/localtime"
TIMEZONE = "/etc/timezone"
# Debian 12 and Ubuntu 22.04 read the first, newer ones make it a link to the second.
LOCALE_FILES = ("/etc/default/locale", "/etc/locale.conf")
SUPPORTED = "/usr/share/i18n/SUPPORTED"
LOCALE_GEN = "/etc/locale.gen"
LANG = re.compile(r"^\s*LANG=[\"']?([^\"'\s]*)[\"']?\s*$", re.MULTILINE)

ARGUMENTS = {
    "timezone": {"type": "str", "required": True},
    "locale": {"type": "str", "required": True},
}
"""Options of the module."""


def current_zone() -> str:
    """Time zone that /etc/localtime leads to; empty if it is no link into the zones."""
    try:
        target = os.readlink(LOCALTIME)
    except OSError:
        return ""
    target = os.path.normpath(os.path.join(os.path.dirname(LOCALTIME), target))
    return target[len(ZONES) + 1 :] if target.startswith(f"{ZONES}/") else ""


def locale_files() -> list[str]:
    """Files that hold LANG on this host, links resolved; the first one where there is none yet."""
    found = {os.path.realpath(path) for path in LOCALE_FILES if os.path.lexists(path)}
    return sorted(found) or [LOCALE_FILES[0]]


def with_language(text: str, locale: str) -> str:
    """`text` with exactly one LANG line; all others stay."""
    lines = [line for line in text.splitlines() if not LANG.match(line)]
    return "\n".join([*lines, f"LANG={locale}"]) + "\n"


def canonical(locale: str) -> str:
    """The form in which `locale -a` lists a name: de_DE.UTF-8 as de_DE.utf8."""
    name, dot, charset = locale.partition(".")
    charset, at, modifier = charset.partition("@")
    return f"{name}{dot}{charset.lower().replace('-', '')}{at}{modifier}"


def is_generated(locale: str) -> bool:
    """Whether the host has the locale."""
    if canonical(locale) in ("C", "POSIX", "C.utf8"):
        return True
    _code, output, _errors = run(["locale", "-a"])
    return canonical(locale) in {canonical(line) for line in output.splitlines()}


def generate(locale: str) -> None:
    """List the locale in locale.gen and have it generated. Raises Refusal."""
    charset = locale.partition(".")[2].partition("@")[0] or "ISO-8859-1"
    entry = f"{locale} {charset}"
    supported = {line.strip() for line in read_text(SUPPORTED).splitlines()}
    if not supported:
        raise Refusal(f'"{locale}" cannot be generated, because the package locales is not installed.')
    if entry not in supported:
        raise Refusal(f'"{locale}" is not a locale that this system knows; {SUPPORTED} lists them all.')
    text = read_text(LOCALE_GEN)
    if not re.search(rf"^{re.escape(entry)}\s*$", text, re.MULTILINE):
        write_atomically(LOCALE_GEN, f"{text.rstrip()}\n{entry}\n".lstrip().encode("utf-8", "surrogateescape"))
    code, output, errors = run(["locale-gen"])
    if code != 0:
        raise Refusal(f"locale-gen failed (exit {code}): {errors.strip() or output.strip()}")


def set_zone(zone: str) -> None:
    """Point /etc/localtime at a zone, atomically."""
    staged = f"{LOCALTIME}.groundwork"
    if os.path.lexists(staged):
        os.unlink(staged)
    os.symlink(f"{ZONES}/{zone}", staged)
    os.rename(staged, LOCALTIME)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    zone, locale = module.params["timezone"], module.params["locale"]
    files = locale_files()

    def state() -> dict:
        languages = {path: (LANG.findall(read_text(path)) or [""])[-1] for path in files}
        # tzdata of Debian 12 takes the zone from this file, newer ones no longer have it.
        names = {current_zone()} | ({read_text(TIMEZONE).strip()} if os.path.exists(TIMEZONE) else set())
        return {
            "timezone": zone if names == {zone} else ", ".join(sorted(names - {zone})),
            "locale": locale if set(languages.values()) == {locale} else ", ".join(sorted(set(languages.values()))),
            "generated": is_generated(locale),
        }

    try:
        before = state()
        after = {"timezone": zone, "locale": locale, "generated": True}
        if before != after and not module.check_mode:
            if not os.path.isfile(f"{ZONES}/{zone}"):
                raise Refusal(f'"{zone}" is not a time zone of this host; `timedatectl list-timezones` lists them.')
            if not before["generated"]:
                generate(locale)
            if before["timezone"] != zone:
                if os.path.exists(TIMEZONE):
                    write_atomically(TIMEZONE, f"{zone}\n".encode())
                set_zone(zone)
            for path in files:
                text = read_text(path)
                if LANG.findall(text) != [locale]:
                    write_atomically(path, with_language(text, locale).encode("utf-8", "surrogateescape"))
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    result = {"changed": before != after, "before": before, "after": after}
    if module._diff:
        result["diff"] = {
            side: "".join(f"{key}: {value}\n" for key, value in values.items())
            for side, values in (("before", before), ("after", after))
        }
    module.exit_json(**result)
