# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the units of a site's timers."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: timer_units
author: groundwork.django maintainers (@groundwork-django)
version_added: "0.1.0"
short_description: Name the units of a site's timers
description:
  - Turns timers as C(gunicorn_app_timers) has them into units as M(groundwork.django.service) has them. They are
    started anew when their schedule changes.
options:
  _input:
    description: The timers, each with C(name).
    type: list
    elements: dict
    required: true
  site:
    description: Name of the site.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Run the timers
  groundwork.django.service:
    units: "{{ [{'name': 'clearsessions'}] | groundwork.django.timer_units(site='forge') }}"
"""

RETURN = r"""
_value:
  description: The units.
  type: list
  elements: dict
"""


def timer_units(timers: list[dict], site: str) -> list[dict]:
    """One unit for each timer. Raises AnsibleFilterError for what is no list of timers."""
    if not isinstance(timers, (list, tuple)) or not all(isinstance(timer, dict) for timer in timers):
        raise AnsibleFilterError("timer_units takes a list of timers, each with a name.")
    names = [f"{site}-timer-{timer['name']}.timer" for timer in timers]
    return [{"name": name, "restart_on": [f"/etc/systemd/system/{name}"]} for name in names]


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict:
        return {"timer_units": timer_units}
