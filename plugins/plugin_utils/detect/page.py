# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of YAML that is proposed: values with the reason of each, and commented lines for what is to be filled in.

What a checkout says is text that nobody has looked at: on the page it can be neither a template nor an end of line.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass, field

WIDTH = 118
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s]*@")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


@dataclass(frozen=True)
class Entry:
    """One key of a mapping. Without ``is_active`` it stands there commented, those first that are ``is_needed``."""

    name: str
    value: object
    why: str
    is_active: bool = True
    is_needed: bool = False


@dataclass
class Page:
    """The lines so far, and the ``values`` that they set."""

    lines: list[str] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)

    def note(self, text: str, indent: str = "") -> None:
        """A comment, wrapped."""
        self.lines += textwrap.wrap(
            plain(text),
            WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    def part(self, title: str) -> None:
        """The begin of a part."""
        self.lines += ["", f"## {title}"]

    def value(self, name: str, value: object, why: str, is_template: bool = False) -> None:
        """A variable that is set. Text with a template's marks is commented unless the template is ours."""
        if not is_template and _TEMPLATE.search(json.dumps(value)):
            self.missing(name, value, f"{why}; commented because Ansible would take it for a template")
            return
        self.note(why)
        self.lines += block(name, value)
        self.values[name] = value

    def missing(self, name: str, example: object, why: str) -> None:
        """A variable that is yet to be filled in, as a commented line with an example."""
        self.note(why)
        self.lines += [f"# {line}" for line in block(name, example)]

    def mapping(self, name: str, entries: list[Entry], why: str) -> None:
        """A mapping: the keys that are set, then the others, commented. Without one of the first, all is."""
        active = {entry.name: entry.value for entry in entries if entry.is_active}
        self.note(why)
        self.lines.append(f"{name}:" if active else f"# {name}:")
        for entry in sorted(entries, key=lambda entry: (not entry.is_active, not entry.is_needed)):
            if entry.is_active:
                self.note(entry.why, "  ")
                self.lines += [f"  {line}" for line in block(entry.name, entry.value)]
            else:
                margin = "  # " if active else "#   "
                self.lines.append(f"{margin}{block(entry.name, entry.value)[0]}  # {plain(entry.why)}")
        if active:
            self.values[name] = active

    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines).strip("\n") + "\n"


def plain(text: str) -> str:
    """Text on one line, without a URL's password and without what could end a comment or steer a terminal."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return _PASSWORD.sub("://***@", line)


def quoted(text: str) -> str:
    """Text as a double-quoted scalar of YAML."""
    return re.sub(
        r"[^ -~]",
        lambda match: match[0] if match[0].isprintable() else f"\\U{ord(match[0]):08x}",
        json.dumps(text, ensure_ascii=False),
    )


def block(name: str, value: object) -> list[str]:
    """The lines of a key with its value: texts, booleans, lists of texts, mappings, lists of mappings."""
    if isinstance(value, dict):
        return [f"{name}:", *(f"  {line}" for key, inner in value.items() for line in block(key, inner))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        lines = [f"{name}:"]
        for item in value:
            inner = [line for key, part in item.items() for line in block(key, part)]
            lines += [f"  {'-' if number == 0 else ' '} {line}" for number, line in enumerate(inner)]
        return lines
    if isinstance(value, list):
        return [f"{name}: [{', '.join(quoted(item) for item in value)}]"]
    return [f"{name}: {json.dumps(value) if isinstance(value, bool) else quoted(str(value))}"]
