# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module confirm does on the host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import confirm, revert

ARGUMENTS = {"state": {"type": "str", "choices": ["confirmed", "put_back"], "default": "confirmed"}}
"""Options of the module."""


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    armed = confirm.is_armed()
    if armed and not module.check_mode:
        if module.params["state"] == "confirmed":
            armed = confirm.disarm()
        else:
            done, sentences = revert.put_back(at_once=True)
            if not done:
                module.fail_json(msg=" ".join(sentences))
    module.exit_json(changed=armed)
