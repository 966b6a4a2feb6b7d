# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_rules
short_description: Have ufw open declared ports and nothing else, in one round trip
version_added: "0.1.0"
description:
  - Makes ufw deny what comes in and allow what goes out, opens the declared ports, and enables it, now and at boot.
  - The SSH port comes first, together with the port that this very connection came to, before ufw is enabled or
    anything is removed.
  - Each rule names in its comment who declared it, as C(groundwork:<owner> <text>). A rule that is no longer
    declared is removed; one that several owners declare stays as long as one of them does. Two sites on one host do
    not disturb each other.
  - Rules made by hand are never removed. One that opens a declared port counts; one that closes it stops the run
    with a sentence. A rule by hand for the SSH port itself is turned into a limit.
  - An interrupted run is repaired by the next one.
options:
  enabled:
    description: Whether ufw is enabled. If not, it is disabled and its rules stay as they are.
    type: bool
    default: true
  owner:
    description: Whose rules these are, in letters, digits, C(_), C(.) and C(-).
    type: str
    required: true
  ssh_port:
    description:
      - Port of sshd. It is always open, and a client that connects six times in 30 seconds is refused for a while.
    type: int
    required: true
  ssh_networks:
    description: Networks that reach the SSH port without that limit.
    type: list
    elements: str
    default: []
  rules:
    description: Ports to open.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: Number of the port.
        type: int
        required: true
      protocol:
        description: Protocol of the port.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description: Networks that may connect; all of them where empty.
        type: list
        elements: str
        default: []
      limit:
        description: Whether a client that connects six times in 30 seconds is refused for a while.
        type: bool
        default: false
      comment:
        description: What the port is for, without quotes.
        type: str
        required: true
  logging:
    description: How much ufw logs.
    type: str
    choices: ["off", low, medium, high, full]
    default: low
attributes:
  check_mode:
    description: Says what would be done, also where ufw is not installed yet.
    support: full
  diff_mode:
    description: Lists the rules of ufw before and after.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Open the ports of the site
  groundwork.django.ufw_rules:
    owner: forge
    ssh_port: 22
    ssh_networks: ["192.0.2.0/24"]
    rules:
      - port: 443
        comment: HTTPS
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["ufw limit proto tcp from any to any port 22 comment groundwork:forge SSH", "ufw --force enable"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import ufw_rules


def main() -> None:
    ufw_rules.carry_out(AnsibleModule(argument_spec=ufw_rules.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
