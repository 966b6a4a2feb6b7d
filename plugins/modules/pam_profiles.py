# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pam_profiles
short_description: Have PAM use profiles that are on disk, or no longer use them
version_added: "0.1.0"
description:
  - Has C(pam-auth-update) put profiles of C(/usr/share/pam-configs) into the common files of PAM, or take them out.
    These files stay under its care, so that packages go on adding what is theirs.
  - What to do is read from the common files; a profile whose text has changed counts as one to be enabled.
  - Says so where C(pam-auth-update) leaves the files alone, because somebody has edited them.
options:
  enabled:
    description: Names of the profiles that PAM shall use.
    type: list
    elements: str
    default: []
  disabled:
    description:
      - Names of profiles that PAM shall not use. Such a profile has to be removed after this, not before; one that is
        not there is content.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would be done; a profile that is not there yet counts as one to be enabled.
    support: full
  diff_mode:
    description: Lists the actions.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Slow down those who guess passwords
  groundwork.django.pam_profiles:
    enabled:
      - groundwork-faillock
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["groundwork-faillock: enable"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import pam_profiles


def main() -> None:
    pam_profiles.carry_out(AnsibleModule(argument_spec=pam_profiles.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
