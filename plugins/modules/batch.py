# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: batch
short_description: Carry out several tasks in one round trip
version_added: "0.1.0"
description:
  - Takes tasks as a play has them and carries them out one after another in one process of the host. Most of what a
    task costs is the way to the host and Python starting there; a batch pays it once.
  - The first task that fails ends the batch, and its name stands before its message.
  - Where M(groundwork.django.service) finds, by the validator of a unit, that what is on disk cannot be used, the files
    that M(groundwork.django.template_tree) placed in the same batch are put back, so that the host can be started anew
    with what it has run with so far.
  - Knows the modules of this collection that work on the host and need nothing of the controller but rendered
    templates. C(release) and C(virtualenv), which take many seconds each, stay tasks of their own.
  - Every module of this collection that a batch can hold is carried out by way of it, also where it stands alone, so
    that Ansible packs their common code once in a run and not once for each.
options:
  tasks:
    description:
      - The tasks, each a dictionary of C(name), a sentence, the full name of a module with its options, and, where
        it is not always wanted, C(when) with an expression. The options of a task that is left out are templated too.
      - A task cannot use what an earlier one of the same batch returns.
    type: list
    elements: dict
    required: true
attributes:
  check_mode:
    description: As the modules have it.
    support: full
  diff_mode:
    description: As the modules have it, one after another.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Place the schedule, and run it
  groundwork.django.batch:
    tasks:
      - name: Place the program and the schedule
        groundwork.django.template_tree:
          src: etc
          manifest: backups-forge
      - name: Run the timer
        groundwork.django.service:
          units:
            - name: forge-backup.timer
              restart_on:
                - /etc/systemd/system/forge-backup.timer
"""

RETURN = r"""
results:
  description: What each task returned, in order, together with its C(name).
  returned: always
  type: list
  elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import batch
from ansible_collections.groundwork.django.plugins.module_utils.payload import unpack


def main() -> None:
    module = AnsibleModule(
        argument_spec={"payload": {"type": "str", "required": True, "no_log": True}}, supports_check_mode=True
    )
    # What is made without a mode of its own is not what the login of this host would make it.
    os.umask(0o022)
    results = batch.carry_out(module, unpack(module.params["payload"]))
    diffs = [result.pop("diff", []) for result in results]
    ended = {
        "changed": any(result["changed"] for result in results),
        "results": results,
        "diff": [entry for diff in diffs for entry in (diff if isinstance(diff, list) else [diff])],
    }
    if results and results[-1].get("failed"):
        module.fail_json(msg=results[-1]["msg"], **ended)
    module.exit_json(**ended)


if __name__ == "__main__":
    main()
