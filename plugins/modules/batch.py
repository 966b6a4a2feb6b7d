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
  confirm:
    description:
      - Commit-confirm, for a batch that decides who gets into the host over SSH. Before the first change, the host
        notes the configuration of sshd, ufw and sysctl and starts a timer that brings it back. Then the controller
        comes in anew, as the play does and without a connection that is open already, and stops that timer. Where it
        cannot, or a task fails, the host puts everything back at once, or when the time is over, and the batch fails.
      - A batch that changes nothing starts no timer. One that finds the timer of a run that was lost keeps what that
        one has noted, and confirms for both.
      - A play that does not come over SSH cannot prove that one can. There the host asks sshd itself, on all of its
        addresses, and only where O(confirm.port) is given; a firewall is not seen by that.
    type: dict
    suboptions:
      seconds:
        description: Time to confirm, counted from the first change; with 0 nothing is put back.
        type: int
        required: true
      port:
        description:
          - The port that sshd listens on from now on. Where it is not the one that the play has come to, the new
            connection is made to it, and it is returned as RV(new_port).
        type: int
      remedy:
        description: What to do where no new connection comes about, as the end of a sentence.
        type: str
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
new_port:
  description: The port that the play has to go on by.
  returned: where sshd has moved there
  type: int
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
    payload = unpack(module.params["payload"])
    unconfirmed: dict = {}
    if payload["confirm"] and not module.check_mode:
        results, unconfirmed = batch.carry_out_guarded(module, payload["tasks"], payload["confirm"])
    else:
        results = batch.carry_out(module, payload["tasks"])
    diffs = [result.pop("diff", []) for result in results]
    ended = {
        "changed": any(result["changed"] for result in results),
        "results": results,
        "unconfirmed": unconfirmed,
        "diff": [entry for diff in diffs for entry in (diff if isinstance(diff, list) else [diff])],
    }
    if results and results[-1].get("failed"):
        module.fail_json(msg=results[-1]["msg"], **ended)
    module.exit_json(**ended)


if __name__ == "__main__":
    main()
