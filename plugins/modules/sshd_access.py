# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: sshd_access
short_description: Keep the way in over SSH open while its configuration changes
version_added: "0.1.0"
description:
  - Refuses to go on where sshd does not take its configuration as it is, because of a file that is not to be replaced.
  - Refuses to go on when the change would lock out the user that Ansible logs in as over SSH.
  - Makes sure that C(sshd_config) includes C(/etc/ssh/sshd_config.d/*.conf) before anything else, so that a drop-in
    there wins, and that C(/run/sshd) exists, without which sshd cannot check a configuration.
options:
  passwords:
    description: Whether sshd will accept passwords after the change.
    type: bool
    required: true
  root_login:
    description: What C(PermitRootLogin) will be.
    type: str
    required: true
  allowed_users:
    description: What C(AllowUsers) will be; all users where empty.
    type: list
    elements: str
    default: []
  port:
    description:
      - The port that sshd will listen on. Where ufw is enabled and does not know the port, it is opened there first.
    type: int
    required: true
  own_file:
    description: The drop-in that is about to be placed anew; what sshd has against the one before is no reason to stop.
    type: path
    default: ""
  owner:
    description: Whose the rule of ufw for the port is, as module M(groundwork.django.ufw_rules) has it.
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would change; where sshd is not installed, nothing.
    support: full
  diff_mode:
    description: Shows the files before and after.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Make sure of the way in
  groundwork.django.sshd_access:
    passwords: false
    root_login: prohibit-password
    port: 22
    owner: forge
"""

RETURN = r"""
{}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import sshd_access


def main() -> None:
    sshd_access.carry_out(AnsibleModule(argument_spec=sshd_access.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
