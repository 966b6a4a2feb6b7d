# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Close a site, have it read only, or open it again
version_added: "0.1.0"
description:
  - Makes and removes the files that the web server and the site look for at each request, and keeps the role of the
    site from writing to its database. Nothing is restarted or reloaded.
  - A session of the database keeps what it began with, so those that are idle are ended; Django opens new ones. A
    request that is being answered goes on to its end.
options:
  mode:
    description: C(on) closes the site, C(read_only) shows it but lets nobody change it, C(off) opens it.
    type: str
    choices: ["on", "read_only", "off"]
    required: true
  passing:
    description:
      - Whether O(mode) ends when the host is started again, so that a run that is lost closes nothing for good.
      - O(flags) are links to a file below C(/run) then, and with C(read_only) nobody can write to the server of
        O(database), by way of C(/run/groundwork/passing/postgres.conf), which the role postgres has it read.
    type: bool
    default: false
  flags:
    description: Files that are there in some of the modes, and only then.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      modes:
        description: In which modes it is there.
        type: list
        elements: str
        choices: ["on", "read_only"]
        required: true
  database:
    description: Database of the site, on this host; its role can only read in the mode C(read_only).
    type: dict
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      user:
        description: Role of the site.
        type: str
        required: true
      port:
        description: Port of the server, which names its socket.
        type: int
        default: 5432
  pool:
    description:
      - PgBouncer of the site on this host. Its connections to the database are replaced when O(mode) begins or ends to
        be C(read_only); one that is lent is replaced when it is given back, so no statement is lost.
    type: dict
    suboptions:
      socket_directory:
        description: Directory of its socket.
        type: path
        required: true
      user:
        description: System user that it runs as.
        type: str
        required: true
      stamp:
        description: File that says what its connections began with.
        type: path
        required: true
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Lists the actions.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Show the site, but let nobody change it
  groundwork.django.maintenance:
    mode: read_only
    flags:
      - path: /etc/nginx/groundwork/forge/read_only
        modes: [read_only]
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import maintenance


def main() -> None:
    maintenance.carry_out(AnsibleModule(argument_spec=maintenance.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
