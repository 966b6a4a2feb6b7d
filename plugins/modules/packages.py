# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install Debian packages in one transaction that starts no daemon
version_added: "0.1.0"
description:
  - Makes sure that packages are installed. Asks dpkg first, so that a run with nothing to install neither opens
    apt's cache nor waits for its lock.
  - Waits until cloud-init has finished, and before a transaction until no other process holds a lock of apt or dpkg.
  - Updates the package lists when there are none, when they are older than O(lists_hours), when a source of
    packages is newer than they are, or when apt does not know a package or cannot fetch it. A young image with
    empty lists is no trap.
  - Installs without recommended packages, keeps configuration files that were changed on the host, and finishes
    first what an interrupted transaction has left.
  - While the transaction runs, C(/usr/sbin/policy-rc.d) keeps every unit from being started that is not running
    already; timers are let through. The file has effect only as long as this module runs, is removed at the end,
    and by the next run if this one is killed. A policy of the operator is kept and asked as well.
options:
  names:
    description:
      - Packages, each as C(name) or C(name=version). Virtual packages count as installed when something provides
        them.
      - C(name | other) is content with the other one where that is installed or provided, as in the dependencies of a
        package; else the first one is installed.
    type: list
    elements: str
    required: true
  lists_hours:
    description: Age in hours from which on the package lists are updated before something is installed.
    type: int
    default: 6
  timeout:
    description: Seconds to wait for cloud-init, and again for the locks of apt and dpkg.
    type: int
    default: 600
attributes:
  check_mode:
    description: Says what would be installed, without a look into the package lists.
    support: full
  diff_mode:
    description: Lists the packages that are missing.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Install what the role needs
  groundwork.django.packages:
    names: "{{ nginx_packages }}"
"""

RETURN = r"""
installed:
  description: Packages of O(names) that were missing.
  returned: always
  type: list
  elements: str
  sample: ["nginx"]
repaired:
  description: What an interrupted run had left and was put right.
  returned: always
  type: list
  elements: str
  sample: ["dpkg was interrupted"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import packages


def main() -> None:
    packages.carry_out(AnsibleModule(argument_spec=packages.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
