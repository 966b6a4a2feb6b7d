# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a file that systemd's EnvironmentFile= reads back byte for byte."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: systemd_environment
author: groundwork.django maintainers (@groundwork-django)
version_added: "0.1.0"
short_description: Write an environment file for systemd
description:
  - Turns a mapping of names and values into the text of a file for C(EnvironmentFile=) of a systemd unit. What systemd
    reads from it is byte for byte what was put in, with quotes, C($), C(#), C(%), backslashes, line breaks and Unicode.
  - V(true) and V(false) become C(True) and C(False), numbers become their digits. A list or a mapping is refused, since
    no two programs agree on how to write one; turn it into text first, perhaps with P(ansible.builtin.to_json#filter).
  - What systemd cannot carry is refused by name; it would leave such a line out without a word.
options:
  _input:
    description: Names and values.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the environment of a unit
  ansible.builtin.copy:
    content: "{{ {'SECRET_KEY': vault_key, 'DEBUG': false} | groundwork.django.systemd_environment }}"
    dest: /etc/forge.env
    mode: "0600"
"""

RETURN = r"""
_value:
  description: Text of the file, one assignment after the other, sorted by name.
  type: str
"""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
ESCAPED = re.compile(r'(["\\$`])')
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def is_noncharacter(char: str) -> bool:
    """Whether systemd does not take the character for valid Unicode: surrogates and noncharacters."""
    number = ord(char)
    return 0xD800 <= number <= 0xDFFF or 0xFDD0 <= number <= 0xFDEF or number & 0xFFFE == 0xFFFE


def text_of(name: str, value: object) -> str:
    """The value as the program will see it. Raises AnsibleFilterError, without the value, for what has no such form."""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise AnsibleFilterError(
            f"The environment variable {name} is {'null' if value is None else 'a ' + type(value).__name__}, "
            "which is not text: write it in quotes, or turn it into text with to_json or join."
        )
    if CONTROL.search(value):
        raise AnsibleFilterError(
            f"The environment variable {name} holds a control character (a carriage return, perhaps), "
            "which systemd does not carry: remove it."
        )
    if any(is_noncharacter(char) for char in value):
        raise AnsibleFilterError(f"The environment variable {name} is not valid Unicode, which systemd insists on.")
    return str(value)


def systemd_environment(values: Mapping[str, object]) -> str:
    """Text of an environment file. Raises AnsibleFilterError for a name or value that cannot be in one."""
    if not isinstance(values, Mapping):
        raise AnsibleFilterError("systemd_environment takes a mapping of names and values.")
    lines = []
    for name in sorted(values, key=str):
        if not isinstance(name, str) or not NAME.match(name):
            raise AnsibleFilterError(
                f'"{name}" is not the name of a variable: use letters, digits and underscores, no digit first.'
            )
        quoted = ESCAPED.sub(r"\\\1", text_of(name, values[name]))
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict:
        return {"systemd_environment": systemd_environment}
