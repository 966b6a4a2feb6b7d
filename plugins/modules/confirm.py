# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: confirm
short_description: Keep a change of who gets in, or put it back
version_added: "0.1.0"
description:
  - Ends what O(groundwork.django.batch#module:confirm) of M(groundwork.django.batch) has begun. A batch does so by
    itself, over a new connection; this module is for its use, and for an operator who does not want to wait.
  - That it can be carried out over a new connection is the proof that one comes about.
options:
  state:
    description:
      - C(confirmed) keeps the change.
      - C(put_back) brings back at once what was there before the change.
    type: str
    choices: [confirmed, put_back]
    default: confirmed
attributes:
  check_mode:
    description: Says whether a change waits to be confirmed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Keep the rules of the firewall that were made by hand meanwhile
  groundwork.django.confirm:
"""

RETURN = r"""
{}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import confirm


def main() -> None:
    confirm.carry_out(AnsibleModule(argument_spec=confirm.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
