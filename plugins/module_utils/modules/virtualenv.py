# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module virtualenv does on the host."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.venv import Uv, Virtualenv, lock

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "requirements": {"type": "str", "default": ""},
    "requirements_file": {"type": "path"},
    "require_hashes": {"type": "bool", "default": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "python": {"type": "str", "default": "python3"},
    "uv": {"type": "path", "default": "/opt/groundwork/uv"},
    # It may hold a password.
    "index_url": {"type": "str", "default": "", "no_log": True},
    "install_args": {"type": "list", "elements": "str", "default": []},
    "cache_dir": {"type": "path", "default": "/var/cache/groundwork/uv"},
    "uv_requirements": {"type": "str", "default": ""},
}
"""Options of the module."""
CONSTRAINTS = {
    "mutually_exclusive": [("requirements", "requirements_file")],
    "required_one_of": [("requirements", "requirements_file", "packages")],
}
"""Which options go together, as AnsibleModule has it."""


def describe(stamp: dict) -> str:
    """What a virtualenv holds, for a diff."""
    if not stamp:
        return ""
    return "".join(f"{line}\n" for line in (stamp.get("python", ""), *stamp.get("packages", [])))


def bring_about(params: dict, check: bool, diff: bool) -> dict:
    """Make the virtualenv unless it is as it shall be. Raises Refusal."""
    result = {"changed": False, "path": params["path"], "uv_installed": False}
    try:
        wanted = Virtualenv(
            params["path"],
            python=params["python"],
            requirements=params["requirements"],
            requirements_file=params["requirements_file"] or "",
            packages=params["packages"],
            arguments=params["install_args"],
            require_hashes=params["require_hashes"],
        )
    except Refusal:
        # In check mode the interpreter or the requirements may be what an earlier task would have brought.
        if check:
            return {**result, "changed": True}
        raise
    found = wanted.found()
    if found == wanted.stamp():
        return result
    result["changed"] = True
    if diff:
        header = params["path"]
        before, after = describe(found), describe(wanted.stamp())
        result["diff"] = {"before_header": header, "after_header": header, "before": before, "after": after}
    if check:
        return result
    os.umask(0o022)
    uv = Uv(params["uv"], params["cache_dir"], params["index_url"])
    with lock():
        # Another run may have made it in the meantime.
        if wanted.is_current():
            return {**result, "changed": False, "diff": {}}
        result["uv_installed"] = uv.ensure(params["uv_requirements"])
        wanted.build(uv)
    return result


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    try:
        result = bring_about(module.params, module.check_mode, module._diff)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(**result)
