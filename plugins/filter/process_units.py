# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the units of a site's processes."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: process_units
author: groundwork.django maintainers (@groundwork-django)
version_added: "0.1.0"
short_description: Name the units of a site's processes
description:
  - Turns processes as C(gunicorn_app_processes) has them into units as M(groundwork.django.service) has them, one for
    each number of a process. They are restarted when their unit, their environment or the live release changes.
options:
  _input:
    description: The processes, each with C(name) and perhaps C(count).
    type: list
    elements: dict
    required: true
  site:
    description: Name of the site.
    type: str
    required: true
  environment:
    description: The environment file of the live release, which is another one for each release.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Run the workers
  groundwork.django.service:
    units: >-
      {{
        [{'name': 'worker', 'count': 2}]
        | groundwork.django.process_units(site='forge', environment='/srv/forge/live/env')
      }}
"""

RETURN = r"""
_value:
  description: The units.
  type: list
  elements: dict
"""


def process_units(processes: list[dict], site: str, environment: str) -> list[dict]:
    """One unit for each number of each process. Raises AnsibleFilterError for what is no list of processes."""
    if not isinstance(processes, (list, tuple)) or not all(isinstance(process, dict) for process in processes):
        raise AnsibleFilterError("process_units takes a list of processes, each with a name.")
    units = []
    for process in processes:
        name = f"{site}-process-{process['name']}@"
        own = [f"/etc/systemd/system/{name}.service", f"/etc/groundwork/gunicorn_app/{site}-{process['name']}.env"]
        for number in range(1, int(process.get("count", 1)) + 1):
            units.append({"name": f"{name}{number}.service", "restart_on": [*own, environment]})
    return units


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict:
        return {"process_units": process_units}
