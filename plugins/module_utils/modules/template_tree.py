# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module template_tree does on the host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import tree
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.payload import unpack

ATTRIBUTES = {"owner": {"type": "str"}, "group": {"type": "str"}, "mode": {"type": "str"}}
ARGUMENTS = {
    "src": {"type": "list", "elements": "str", "required": True},
    "rename": {"type": "dict", "default": {}},
    "repeat": {"type": "dict", "default": {}},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "validate": {"type": "str"},
            "create_only": {"type": "bool"},
            "secret": {"type": "bool", "no_log": False},
            **ATTRIBUTES,
        },
    },
    "directory_mode": {"type": "str", "default": "0755"},
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "path", "required": True}, **ATTRIBUTES},
    },
    "assemble": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "parts": {"type": "path", "required": True},
            "validate": {"type": "str"},
            **ATTRIBUTES,
        },
    },
    "manifest": {"type": "str"},
    "lstrip_blocks": {"type": "bool", "default": False},
    "payload": {"type": "str", "no_log": True},
}
"""Options of the module, and the payload that the action plugin adds."""


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    if not module.params["payload"]:
        module.fail_json(
            msg="template_tree has to be called as groundwork.django.template_tree, through its action plugin."
        )
    placed = tree.Placed()
    module.put_back = placed.put_back
    try:
        result = tree.place(unpack(module.params["payload"]), module.check_mode, module._diff, placed)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)
