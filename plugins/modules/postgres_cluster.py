# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_cluster
short_description: Have one PostgreSQL cluster, of the right version, with data checksums
version_added: "0.1.0"
description:
  - Looks for the cluster C(main) of the host, creates it where there is none, and turns data checksums on.
  - It never creates a cluster beside another one. Where the databases are in a cluster of another major version than
    the one that is asked for, it fails with one sentence.
  - Checksums are turned on by C(pg_checksums), which rewrites the files of a stopped cluster and can be interrupted
    at any moment; the cluster is left stopped, for M(groundwork.django.service) to start.
  - For the clusters of Debian and Ubuntu (C(postgresql-common)).
options:
  version:
    description: Major version. Empty takes the one of the cluster that is there, or else the newest that is installed.
    type: str
    default: ""
  data_checksums:
    description:
      - C(new) turns checksums on in a cluster without databases of users, C(all) in any, C(off) changes nothing.
      - A cluster with databases is stopped for the time it takes to read and write all of its files.
    type: str
    choices: ["new", "all", "off"]
    default: new
  locale:
    description: Locale of a cluster that is created; its encoding is UTF-8.
    type: str
    default: C.UTF-8
  port:
    description: Port of a cluster that is created.
    type: int
    default: 5432
attributes:
  check_mode:
    description: Full; on a host without PostgreSQL, version is the one that the distribution has.
    support: full
  diff_mode:
    description: Lists the actions.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Have a cluster of the distribution's version
  groundwork.django.postgres_cluster:
  register: cluster

- name: Turn checksums on in a cluster with data, in a maintenance window
  groundwork.django.postgres_cluster:
    version: "17"
    data_checksums: all
"""

RETURN = r"""
version:
  description: Major version of the cluster.
  returned: success
  type: str
  sample: "17"
data_directory:
  description: Where its data is.
  returned: success
  type: str
  sample: /var/lib/postgresql/17/main
actions:
  description: What was done, or would be done in check mode, in order.
  returned: success
  type: list
  elements: str
  sample: ["turn on data checksums in 17/main"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import postgres_cluster


def main() -> None:
    postgres_cluster.carry_out(AnsibleModule(argument_spec=postgres_cluster.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
