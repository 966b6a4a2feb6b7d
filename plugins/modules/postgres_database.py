# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_database
short_description: Keep a database and the role that owns it
version_added: "0.1.0"
description:
  - Creates the role and its database, and brings owner, rights, settings and extensions to what they shall be, in one
    round trip of the host. Speaks to the server by C(psql), as the superuser over the unix socket; no Python library is
    needed.
  - The role can log in and nothing else. The database is closed to everybody but its owner, its readers and the
    superuser, and only the owner can create tables in the schema C(public).
  - What is there already is only changed where it differs; nothing is ever dropped. Interrupted at any moment, the next
    run completes it.
options:
  version:
    description: Major version of the server, whose C(psql) is used.
    type: str
    required: true
  port:
    description: Port that the unix socket is named after.
    type: int
    default: 5432
  name:
    description: Name of the database.
    type: str
    required: true
  owner:
    description: Name of the role that owns it.
    type: str
    required: true
  password:
    description:
      - Password of the role. Empty takes a password away, so that only peer authentication is left.
      - The server gets the SCRAM verifier only. The one it has is compared, so an unchanged password is no change.
    type: str
    default: ""
  locale:
    description: Collation and character types of a database that is created; its encoding is UTF-8.
    type: str
    default: C.UTF-8
  extensions:
    description: Extensions that the database has, with those they need.
    type: list
    elements: str
    default: []
  settings:
    description: Settings of the role in this database, name to text; null removes one. Others are left alone.
    type: dict
    default: {}
  readers:
    description:
      - Roles that can enter this database and read everything in it, as a dump does; they have no password, and are
        created where there are none.
      - Rows that are hidden from others by row security and large objects count as everything. Before version 19 no
        right lets a role read all large objects, so these roles have C(lo_compat_privileges), with which they could
        change them too; their transactions read only unless they say otherwise.
      - One that owns something already is refused.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Full; where no server runs yet, everything counts as to be done.
    support: full
  diff_mode:
    description: Lists the actions.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Give a site its database
  groundwork.django.postgres_database:
    version: "17"
    name: forge
    owner: forge
    extensions:
      - pg_trgm
    readers:
      - forge_backup
    settings:
      idle_in_transaction_session_timeout: 10min
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order; without values.
  returned: success
  type: list
  elements: str
  sample: ["create role forge", "create database forge"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import postgres_database


def main() -> None:
    postgres_database.carry_out(AnsibleModule(argument_spec=postgres_database.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
