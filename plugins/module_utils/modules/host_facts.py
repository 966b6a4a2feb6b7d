# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module host_facts does on the host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.hardware.linux import LinuxHardware
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.system.local import LocalFactCollector

ARGUMENTS = {"fact_path": {"type": "path", "default": "/etc/ansible/facts.d"}}
"""Options of the module."""


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    hardware = LinuxHardware(module)
    facts = {
        **DistributionFactCollector().collect(module=module),
        **LocalFactCollector().collect(module=module),
        **hardware.get_memory_facts(),
        **hardware.get_cpu_facts(collected_facts={}),
    }
    local = {"ansible_local": facts.pop("local", {})}
    module.exit_json(changed=False, ansible_facts={**{f"ansible_{key}": facts[key] for key in facts}, **local})
