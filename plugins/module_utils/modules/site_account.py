# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module site_account does on the host."""

from __future__ import annotations

import grp
import pwd

from ansible.module_utils.basic import AnsibleModule

SHELL = "/usr/sbin/nologin"
FIRST_PERSON = 1000
LAST_PERSON = 59999

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "members": {"type": "list", "elements": "str", "default": []},
}
"""Options of the module."""


def found_user(name: str) -> pwd.struct_passwd | None:
    """Entry of a user, None if there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def found_group(name: str) -> grp.struct_group | None:
    """Entry of a group, None if there is none."""
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def plan(name: str, home: str, members: list[str]) -> list[tuple[str, list[str]]]:
    """What has to be done: pairs of a description and a command. Raises ValueError with one sentence."""
    user, group = found_user(name), found_group(name)
    steps = []
    if not group:
        steps.append((f"group {name}: add", ["groupadd", "--system", name]))
    if not user:
        command = ["useradd", "--system", "--gid", name, "--home-dir", home, "--no-create-home", "--shell", SHELL, name]
        steps.append((f"user {name}: add", command))
    else:
        if user.pw_uid == 0 or FIRST_PERSON <= user.pw_uid <= LAST_PERSON:
            raise ValueError(
                f"The user {name} (number {user.pw_uid}) is not a system account: "
                "give the site another user (groundwork_site_user), or remove that one."
            )
        changes = []
        if user.pw_dir != home:
            changes += ["--home", home]
        if user.pw_shell != SHELL:
            changes += ["--shell", SHELL]
        if group and user.pw_gid != group.gr_gid:
            changes += ["--gid", name]
        if changes:
            steps.append((f"user {name}: change", ["usermod", *changes, name]))
    for member in members:
        account = found_user(member)
        if not account or (group and (member in group.gr_mem or account.pw_gid == group.gr_gid)):
            continue
        steps.append((f"group {name}: add member {member}", ["gpasswd", "--add", member, name]))
    return steps


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    name = module.params["name"]
    try:
        steps = plan(name, module.params["home"], module.params["members"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    for what, command in steps:
        if module.check_mode:
            continue
        code, output, errors = module.run_command(command)
        if code != 0:
            module.fail_json(msg=f"{what} failed: {(errors or output).strip()}")
    module.exit_json(changed=bool(steps), actions=[what for what, _command in steps])
