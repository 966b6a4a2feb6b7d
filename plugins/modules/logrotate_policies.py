# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: logrotate_policies
short_description: Place rotation policies for logs, once logrotate itself has accepted all of them together
version_added: "0.1.0"
description:
  - Writes one file for each policy into C(/etc/logrotate.d), in one round trip.
  - Has logrotate read a copy of C(/etc/logrotate.d) with the new files in it first. Its exit code is no verdict (an
    unknown option ends with 0), so what counts is whether it reports an error about one of these files. A log that two
    files rotate is such an error, and so is a directory that others may write to without O(policies[].su).
  - Nothing is placed unless all is accepted.
options:
  policies:
    description: The policies, each a file of its own.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the file.
        type: str
        required: true
      paths:
        description: Logs, as paths and shell patterns.
        type: list
        elements: str
        required: true
      frequency:
        description: How often they are rotated.
        type: str
        choices: [daily, weekly, monthly]
        default: daily
      keep:
        description: How many rotated ones are kept.
        type: int
        required: true
      create:
        description: Mode, owner and group of the new log, such as V(0640 www-data adm); empty for those of the old one.
        type: str
        default: ""
      su:
        description: User and group to rotate as; needed where the directory is not only root's to write to.
        type: str
        default: ""
      postrotate:
        description: Shell commands after the rotation of all logs of the policy; empty for none.
        type: str
        default: ""
  manifest:
    description:
      - Name under which the host remembers which files this call has made. A policy that an earlier call of the same
        name made, and that is no longer in O(policies), is removed.
    type: str
    required: true
  directory:
    description: Where the files are.
    type: path
    default: /etc/logrotate.d
attributes:
  check_mode:
    description: Says what would change; a refusal is a warning, as users and directories may come with the real run.
    support: full
  diff_mode:
    description: Shows the contents.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Rotate the logs
  groundwork.django.logrotate_policies:
    manifest: logrotate-forge
    policies:
      - name: forge-app
        paths:
          - /var/log/forge/app.log
        keep: 10
        create: 0640 forge forge
        su: forge forge
"""

RETURN = r"""
changed_paths:
  description: Files that were placed, sorted.
  returned: always
  type: list
  elements: str
  sample: ["/etc/logrotate.d/forge-app"]
removed_paths:
  description: Files that were removed because their policy is gone, sorted.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import logrotate_policies


def main() -> None:
    logrotate_policies.carry_out(AnsibleModule(argument_spec=logrotate_policies.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
