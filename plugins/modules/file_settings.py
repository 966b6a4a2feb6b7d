# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: file_settings
short_description: Set values in a file of the distribution that has no directory for additions
version_added: "0.1.0"
description:
  - Sets values in a file whose lines are a name, O(separator) and a value, such as C(/etc/login.defs). All other lines,
    comments among them, stay as they are, and so do owner and mode.
  - A name that the file has twice is left with one line; one that it does not have is added at the end.
  - The file is replaced at once, never written in place.
options:
  path:
    description: The file. It has to be there, but in check mode, where its package may only come with the real run.
    type: path
    required: true
  settings:
    description: Names with their values. A setting that is no longer named here keeps the value it has.
    type: dict
    required: true
  separator:
    description: What a new line has between name and value. In a line that is there the blanks may be others.
    type: str
    default: "\t"
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Keep the files of people from others
  groundwork.django.file_settings:
    path: /etc/login.defs
    settings:
      UMASK: "027"
"""

RETURN = r"""
changed:
  description: Whether a value was not the one asked for.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import file_settings


def main() -> None:
    file_settings.carry_out(AnsibleModule(argument_spec=file_settings.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
