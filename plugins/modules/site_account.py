# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: site_account
short_description: Keep the system user and the group of a site
version_added: "0.1.0"
description:
  - Makes a system user and a group of the same name, in one round trip. The user has no password and no shell.
  - Makes other users members of the group, those that exist. This is how the web server reaches sockets and uploads.
  - Refuses to take over a person's account.
options:
  name:
    description: Name of the user and of the group.
    type: str
    required: true
  home:
    description: Home directory; it is not made here.
    type: path
    required: true
  members:
    description: Users that are members of the group. One that does not exist is left out.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would be done.
    support: full
author: groundwork.django maintainers (@groundwork-django)
"""

EXAMPLES = r"""
- name: Keep the user that the site runs as
  groundwork.django.site_account:
    name: forge
    home: /var/lib/forge
    members: [www-data]
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["group forge: add", "user forge: add"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import site_account


def main() -> None:
    site_account.carry_out(AnsibleModule(argument_spec=site_account.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
