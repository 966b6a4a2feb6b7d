# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a version of Python is one that a project asks for; see PEP 440 for what the specifiers mean."""

from __future__ import annotations

import re

SPECIFIER = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*\Z")


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (3, 13, 5) for "3.13.5rc1"."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version).group(0)))


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version satisfies one specifier, such as ">=3.11". One that is not understood counts as satisfied."""
    match = SPECIFIER.match(specifier)
    if not match:
        return True
    operator, text, wildcard = match.groups()
    wanted = numbers(text)
    found = (*numbers(version), 0, 0, 0)[: max(3, len(wanted))]
    prefix = found[: len(wanted)]
    padded = wanted + (0,) * (len(found) - len(wanted))
    if operator == "~=":
        return found >= padded and found[: len(wanted) - 1] == wanted[:-1]
    if operator in ("==", "!="):
        same = prefix == wanted if wildcard else found == padded
        return same is (operator == "==")
    return {
        "<=": found <= padded,
        ">=": found >= padded,
        "<": found < padded,
        ">": found > padded,
    }[operator]


def obstacle(version: str, requirement: str) -> str:
    """The first specifier of a comma list that a version does not satisfy; an empty text if there is none."""
    return next((part.strip() for part in requirement.split(",") if not satisfies(version, part)), "")
