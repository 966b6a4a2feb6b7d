# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a command as ExecStart= of a systemd unit reads it."""

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: systemd_command
author: groundwork.django maintainers (@groundwork-django)
version_added: "0.1.0"
short_description: Write a command for a systemd unit
description:
  - Turns the words of a command into text for C(ExecStart=). The program gets each word byte for byte, with blanks,
    quotes, C($), C(%), C(;) and backslashes; no shell and none of systemd's replacements has a part in it.
options:
  _input:
    description: The words; the first one is the program.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show how a worker is started
  ansible.builtin.debug:
    msg: "ExecStart={{ ['/usr/bin/env', 'celery', '-A', 'config', 'worker'] | groundwork.django.systemd_command }}"
"""

RETURN = r"""
_value:
  description: The words, each in double quotes.
  type: str
"""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def systemd_command(words: list[str]) -> str:
    """Text for ExecStart=. Raises AnsibleFilterError for what is no list of words, and for control characters."""
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise AnsibleFilterError("systemd_command takes a list of words, such as ['celery', '-A', 'config', 'worker'].")
    if any(CONTROL.search(word) for word in words):
        raise AnsibleFilterError("systemd_command takes no control characters: a command of a unit is one line.")
    escaped = (re.sub(r'(["\\])', r"\\\1", word).replace("%", "%%").replace("$", "$$") for word in words)
    return " ".join(f'"{word}"' for word in escaped)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict:
        return {"systemd_command": systemd_command}
