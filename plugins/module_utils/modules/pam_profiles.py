# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module pam_profiles does on the host."""

from __future__ import annotations

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text

PROFILES = "/usr/share/pam-configs"
COMMON = "/etc/pam.d"
TYPES = ("account", "auth", "password", "session")
CONTROL = re.compile(r"^(\[[^]]*\]|\S+)\s+")

ARGUMENTS = {
    "enabled": {"type": "list", "elements": "str", "default": []},
    "disabled": {"type": "list", "elements": "str", "default": []},
}
"""Options of the module."""


def calls(text: str) -> list[tuple[str, str]]:
    """What a profile has PAM call: a type, and a module with its arguments.

    What stands before the module is left out, because pam-auth-update turns it into jumps.
    """
    found, current = [], ""
    for line in text.splitlines():
        if not line[:1].isspace():
            field, _colon, line = line.partition(":")
            # What a profile has called where it comes first ("Auth-Initial") is left out.
            name = field.strip().lower()
            current = name if name in TYPES else ""
        call = " ".join(CONTROL.sub("", line.strip()).split())
        if current and call:
            found.append((current, call))
    return found


def placed(kind: str) -> set[str]:
    """Modules with their arguments that PAM calls for a type."""
    lines = [line.split("#")[0].split(None, 1) for line in read_text(f"{COMMON}/common-{kind}").splitlines()]
    return {" ".join(CONTROL.sub("", line[1]).split()) for line in lines if len(line) == 2 and line[0] == kind}


def is_complete(name: str) -> bool:
    """Whether PAM calls all that a profile says."""
    wanted = calls(read_text(f"{PROFILES}/{name}"))
    return bool(wanted) and all(call in placed(kind) for kind, call in wanted)


def is_there(name: str) -> bool:
    """Whether PAM calls anything that a profile says."""
    return any(call in placed(kind) for kind, call in calls(read_text(f"{PROFILES}/{name}")))


def update(arguments: list[str], names: list[str]) -> None:
    """Have the common files of PAM made anew. Raises Refusal."""
    code, output, errors = run(["env", "DEBIAN_FRONTEND=noninteractive", "pam-auth-update", "--package", *arguments])
    if code != 0:
        said = errors.strip() or output.strip()
        raise Refusal(f"pam-auth-update failed for {', '.join(names)} (exit {code}): {said}")


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    enabled, disabled = module.params["enabled"], module.params["disabled"]
    missing = [name for name in enabled if not is_complete(name)]
    unwanted = [name for name in disabled if is_there(name)]
    try:
        if not module.check_mode:
            if unwanted:
                update(["--remove", *unwanted], unwanted)
            if missing:
                absent = [name for name in missing if not os.path.exists(f"{PROFILES}/{name}")]
                if absent:
                    raise Refusal(f"There is no profile {', '.join(absent)} in {PROFILES}.")
                update(["--enable", *missing], missing)
            if [name for name in missing if not is_complete(name)] or [name for name in unwanted if is_there(name)]:
                raise Refusal(
                    f"pam-auth-update leaves {COMMON}/common-* as they are, because they were edited by hand. Look at "
                    "the difference, and run `pam-auth-update --force` to let it manage them again."
                )
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    actions = [*(f"{name}: disable" for name in unwanted), *(f"{name}: enable" for name in missing)]
    result: dict = {"changed": bool(actions), "actions": actions}
    if module._diff:
        listed = "".join(f"{action}\n" for action in actions)
        result["diff"] = {"before_header": "PAM", "after_header": "PAM", "before": "", "after": listed}
    module.exit_json(**result)
