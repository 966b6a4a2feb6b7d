# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: localization
short_description: Set the time zone and the language of a host
version_added: "0.1.0"
description:
  - Points C(/etc/localtime) at a time zone and writes C(LANG) where the host reads it, in one call and without a
    service on the bus.
  - Generates the locale where the system does not bring it along. All is derived from the state of the host, so
    that an interrupted run is repaired by the next one.
options:
  timezone:
    description: Name of a time zone below C(/usr/share/zoneinfo), such as C(Etc/UTC).
    type: str
    required: true
  locale:
    description:
      - Name of a locale, such as C(C.UTF-8) or C(de_DE.UTF-8). All but C(C) and C(C.UTF-8) need the package
        C(locales).
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would change, also where the packages are not installed yet.
    support: full
  diff_mode:
    description: Shows the values before and after.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Set the time zone and the language
  groundwork.django.localization:
    timezone: Etc/UTC
    locale: C.UTF-8
"""

RETURN = r"""
before:
  description: Time zone, locale and whether the locale was there.
  returned: always
  type: dict
after:
  description: The same after the change.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import localization


def main() -> None:
    localization.carry_out(AnsibleModule(argument_spec=localization.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
