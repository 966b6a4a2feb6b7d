# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module host_facts does on the host.

It does not use ansible.module_utils.facts: importing any part of that package has Ansible pack all of it.
"""

from __future__ import annotations

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.sys_info import get_distribution, get_distribution_codename, get_distribution_version
from ansible_collections.groundwork.django.plugins.module_utils.files import read_json, read_text

ARGUMENTS = {"fact_path": {"type": "path", "default": "/etc/ansible/facts.d"}}
"""Options of the module."""


def local_facts(directory: str) -> dict[str, dict]:
    """What the JSON files in a directory of local facts say, by their names without the ending."""
    paths = glob.glob(os.path.join(glob.escape(directory), "*.fact"))
    found = {os.path.basename(path)[: -len(".fact")]: read_json(path) for path in paths if not os.access(path, os.X_OK)}
    return {name: fact for name, fact in found.items() if fact}


def memory_mb() -> int:
    """Memory in MiB, of the container where this is one that limits it."""
    found = re.search(r"^MemTotal: +([0-9]+) kB$", read_text("/proc/meminfo"), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    facts = {
        "ansible_distribution": get_distribution(),
        "ansible_distribution_release": get_distribution_codename(),
        "ansible_distribution_version": get_distribution_version(),
        "ansible_memtotal_mb": memory_mb(),
        "ansible_processor_nproc": len(os.sched_getaffinity(0)),
        "ansible_local": local_facts(module.params["fact_path"]),
    }
    module.exit_json(changed=False, ansible_facts=facts)
