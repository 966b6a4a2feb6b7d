# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module sshd_access does on the host."""

from __future__ import annotations

import os
import pwd
import re
import shlex

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text, write_atomically
from ansible_collections.groundwork.django.plugins.module_utils.ssh_login import ssh_login

CONFIG = "/etc/ssh/sshd_config"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"
RUNTIME = "/run/sshd"
SSHD = "/usr/sbin/sshd"
TEST = [SSHD, "-t"]
UFW_CONFIG = "/etc/ufw/ufw.conf"
UFW_RULES = "/etc/ufw/user.rules"
KEY = re.compile(r"^(?:[^#]*\s)?(?:ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[a-z0-9@.-]+\s+[A-Za-z0-9+/]{40,}", re.MULTILINE)

ARGUMENTS = {
    "passwords": {"type": "bool", "required": True, "no_log": False},
    "root_login": {"type": "str", "required": True},
    "allowed_users": {"type": "list", "elements": "str", "default": []},
    "port": {"type": "int", "required": True},
    "own_file": {"type": "path", "default": ""},
    "owner": {"type": "str", "required": True},
}
"""Options of the module."""


def has_first_include(text: str) -> bool:
    """Whether the include of the drop-ins comes before every other setting."""
    for line in text.splitlines():
        words = line.split("#")[0].replace('"', "").replace("=", " ").split()
        if words:
            return words[0].lower() == "include" and "/etc/ssh/sshd_config.d/*.conf" in words[1:]
    return False


def has_key(user: str, read_file=read_text) -> bool:
    """Whether a user can log in by a key or a certificate, as sshd is set up now."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    _code, output, _errors = run([SSHD, "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"])
    settings: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, _space, value = line.partition(" ")
        settings.setdefault(name, []).append(value)
    for name in ("authorizedkeyscommand", "trustedusercakeys"):
        if settings.get(name, ["none"])[0] != "none":
            return True
    patterns = " ".join(settings.get("authorizedkeysfile", [".ssh/authorized_keys .ssh/authorized_keys2"])).split()
    for pattern in patterns:
        path = pattern.replace("%h", entry.pw_dir).replace("%u", user).replace("%%", "%")
        if KEY.search(read_file(os.path.join(entry.pw_dir, path))):
            return True
    return False


def lock_out(user: str, passwords: bool, root_login: str, allowed: list[str], keyed) -> str | None:
    """Sentence that says why `user` could not log in any more; None where he can. `keyed` says whether he has a key."""
    if user == "root" and root_login == "no":
        return (
            "sshd_permit_root_login is no, but Ansible logs in as root; "
            "run the role base with a user in base_admin_users, log in as that user, and run this again."
        )
    names = [name.split("@")[0] for name in allowed]
    if names and user not in names and not any(set("*?!") & set(name) for name in names):
        return f"sshd_allow_users does not name {user}, the user that Ansible logs in as; add it to the list."
    if not passwords and not keyed(user):
        return (
            f"Passwords are about to be refused, but {user}, the user that Ansible logs in as, has no key on the host; "
            "put one there first (ssh-copy-id), or set sshd_password_authentication_enabled to true."
        )
    return None


def port_is_closed(port: int) -> bool:
    """Whether ufw is enabled and has no rule at all for the port."""
    if not re.search(r"^ENABLED=yes$", read_text(UFW_CONFIG), re.MULTILINE):
        return False
    return not re.search(rf"^### tuple ### (allow|limit)\S* tcp {port} ", read_text(UFW_RULES), re.MULTILINE)


def taken_by(port: int) -> str:
    """The program that listens on a port and is not sshd, nor systemd for it; empty where there is none."""
    _code, output, _errors = run(
        ["ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes", f"sport = :{port}"]
    )
    found = re.findall(r'\(\("([^"]+)"', output)
    return next((name for name in found if not name.startswith(("sshd", "systemd"))), "")


def refused(own_file: str) -> str:
    """What sshd says about its configuration as it stands; empty where it takes it, or minds only our own file."""
    code, output, errors = run(TEST)
    said = [line.strip() for line in (errors or output).splitlines() if line.strip()]
    # Our own file is about to be placed anew, and checked then.
    others = [line for line in said if not own_file or not line.startswith(own_file)]
    reasons = [line for line in others if "terminating" not in line and "Deprecated option" not in line]
    return reasons[0].rstrip(".") if code != 0 and reasons else ""


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    params = module.params
    if not os.path.exists(SSHD):
        module.exit_json(changed=False)
    config = read_text(CONFIG)
    before, after = config, config if has_first_include(config) else f"{INCLUDE}\n{config}"
    closed = port_is_closed(params["port"])
    # As module ufw_rules does it, so that the rule goes when its owner no longer declares it.
    opens = ["ufw", "allow", f"{params['port']}/tcp", "comment", f"groundwork:{params['owner']} SSH"]
    try:
        other = taken_by(params["port"])
        if other:
            raise Refusal(
                f"The port {params['port']} that sshd is to listen on is taken by {other}: choose another one for "
                "sshd_port, or stop that program first."
            )
        login = ssh_login()
        if login:
            sentence = lock_out(login.user, params["passwords"], params["root_login"], params["allowed_users"], has_key)
            if sentence:
                raise Refusal(sentence)
        if not module.check_mode:
            # It is gone where a socket starts sshd, or where it never ran; without it sshd checks no configuration.
            os.makedirs(RUNTIME, mode=0o755, exist_ok=True)
        said = refused(params["own_file"]) if os.path.isdir(RUNTIME) else ""
        if said:
            raise Refusal(
                f"sshd refuses its configuration as it is ({said}), so nothing was changed: put that right first; "
                "`sshd -t` on the host says nothing once it is."
            )
        if not module.check_mode:
            if before != after:
                write_atomically(CONFIG, after.encode("utf-8", "surrogateescape"))
            if closed:
                code, _output, errors = run(opens)
                if code != 0:
                    raise Refusal(f"ufw cannot open the port {params['port']} for sshd: {errors.strip()}")
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    result = {"changed": before != after or closed}
    if module._diff:
        result["diff"] = [{"before_header": CONFIG, "after_header": CONFIG, "before": before, "after": after}]
        if closed:
            opened = {"before_header": "ufw", "after_header": "ufw", "before": "", "after": f"{shlex.join(opens)}\n"}
            result["diff"].append(opened)
    module.exit_json(**result)
