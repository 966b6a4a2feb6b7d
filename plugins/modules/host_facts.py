# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Gather the few facts that the roles use
version_added: "0.1.0"
description:
  - Distribution, memory, processors and local facts, with the names and values that M(ansible.builtin.setup) gives
    them.
  - It leaves out all else, above all the mounted file systems, which cost most of the time of C(setup), and local
    facts that are programs or INI files.
  - A play that needs other facts gathers them itself.
options:
  fact_path:
    description: Directory of local facts.
    type: path
    default: /etc/ansible/facts.d
attributes:
  check_mode:
    description: It changes nothing, and runs in check mode as it does without.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Gather the facts that the roles use
  groundwork.django.host_facts:
"""

RETURN = r"""
ansible_facts:
  description:
    - C(ansible_distribution), C(ansible_distribution_release), C(ansible_distribution_version),
      C(ansible_memtotal_mb), C(ansible_processor_nproc) and C(ansible_local), as those of
      M(ansible.builtin.setup).
  returned: always
  type: dict
  sample: {"ansible_distribution": "Debian", "ansible_memtotal_mb": 1984, "ansible_processor_nproc": 2}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import host_facts


def main() -> None:
    host_facts.carry_out(AnsibleModule(argument_spec=host_facts.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
