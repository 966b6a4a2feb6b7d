# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: program
short_description: Run a program of the collection to its end, and say what it said
version_added: "0.1.0"
description:
  - Starts a unit of systemd and waits for its end. A run of Ansible that is lost does not end the unit, and
    C(journalctl -fu <unit>) shows how far it is.
  - A program that fails says why in one sentence, and this module fails with that sentence.
options:
  unit:
    description:
      - Name of the unit. With O(command) it is made for this run, and must not run already; without, it is one of the
        host.
    type: str
    required: true
  command:
    description: Program and its arguments.
    type: list
    elements: str
    default: []
  changes:
    description: Whether the program changes the host. If so, it is not run in check mode.
    type: bool
    default: true
attributes:
  check_mode:
    description: Runs only what changes nothing.
    support: partial
  diff_mode:
    description: Nothing is shown.
    support: none
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Prove that the backups restore
  groundwork.django.program:
    unit: groundwork-drill.service

- name: Say what a restore would do
  groundwork.django.program:
    unit: groundwork-restore-plan.service
    command: [/usr/local/lib/groundwork/restore.py, plan, latest]
    changes: false
"""

RETURN = r"""
said:
  description: What the program said, line by line.
  returned: when it was run
  type: list
  elements: str
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run

ERROR = 3
"""Priority of errors in the journal."""


def messages(invocation: str) -> list[tuple[int, str]]:
    """Priority and text of all that an invocation of a unit has said."""
    run(["journalctl", "--sync"])
    _code, output, _errors = run(["journalctl", "--output=json", f"_SYSTEMD_INVOCATION_ID={invocation}"])
    lines = [json.loads(line) for line in output.splitlines()]
    return [(int(line.get("PRIORITY", 6)), str(line.get("MESSAGE"))) for line in lines]


def invocation_of(unit: str) -> str:
    """Id of the newest invocation of a unit, which its journal has."""
    command = ["journalctl", "--output=json", "--lines=1", f"UNIT={unit}", "JOB_TYPE=start"]
    _code, output, _errors = run(command)
    return json.loads(output.splitlines()[-1]).get("INVOCATION_ID", "") if output.strip() else ""


def main() -> None:
    options = {
        "unit": {"type": "str", "required": True},
        "command": {"type": "list", "elements": "str", "default": []},
        "changes": {"type": "bool", "default": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    unit, command = module.params["unit"], module.params["command"]
    if module.check_mode and module.params["changes"]:
        module.exit_json(changed=True)
    start = ["systemctl", "start", unit]
    if command:
        if run(["systemctl", "is-active", unit])[1].strip() == "activating":
            module.fail_json(
                msg=f"{unit} is still at work for an earlier run: journalctl -fu {unit} shows how far it is."
            )
        start = ["systemd-run", "--quiet", "--wait", f"--unit={unit}", "--service-type=oneshot", "--", *command]
    # What a run that was killed has left.
    run(["systemctl", "reset-failed", unit])
    code, _output, errors = run(start)
    run(["journalctl", "--sync"])
    said = messages(invocation_of(unit))
    if command:
        run(["systemctl", "reset-failed", unit])
    if code != 0:
        reasons = [text for priority, text in said if priority <= ERROR]
        module.fail_json(msg=reasons[-1] if reasons else f"{unit} failed: {errors.strip() or f'exit status {code}'}")
    module.exit_json(changed=module.params["changes"], said=[text for _priority, text in said])


if __name__ == "__main__":
    main()
