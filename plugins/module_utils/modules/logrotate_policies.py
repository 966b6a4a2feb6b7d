# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module logrotate_policies does on the host."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import tree
from ansible_collections.groundwork.django.plugins.module_utils.commands import MISSING, run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_json

HEADER = "# Managed by Ansible (groundwork.django.logrotate). Changes made here are overwritten.\n"
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
PATH = re.compile(r"""^/[^\s"'{}\\]+$""")
# What logrotate skips in an included directory; a copy of it would not be judged by these files.
SKIPPED = (".disabled", ".dpkg-bak", ".dpkg-dist", ".dpkg-new", ".dpkg-old", ".dpkg-tmp", ".swp", "~")

ARGUMENTS = {
    "policies": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "str", "required": True},
            "frequency": {"type": "str", "choices": ["daily", "weekly", "monthly"], "default": "daily"},
            "keep": {"type": "int", "required": True},
            "create": {"type": "str", "default": ""},
            "su": {"type": "str", "default": ""},
            "postrotate": {"type": "str", "default": ""},
        },
    },
    "manifest": {"type": "str", "required": True},
    "directory": {"type": "path", "default": "/etc/logrotate.d"},
}
"""Options of the module."""


def render(policy: dict) -> str:
    """The file of a policy."""
    lines = [f"{' '.join(policy['paths'])} {{", f"    {policy['frequency']}", f"    rotate {policy['keep']}"]
    lines += [f"    {option}" for option in ("dateext", "missingok", "notifempty", "compress", "delaycompress")]
    lines.append(f"    create {policy['create']}".rstrip())
    if policy["su"]:
        lines.append(f"    su {policy['su']}")
    if policy["postrotate"].strip():
        lines += ["    sharedscripts", "    postrotate"]
        lines += [f"        {line.strip()}" for line in policy["postrotate"].strip().splitlines()]
        lines.append("    endscript")
    return HEADER + "\n" + "\n".join(lines) + "\n}\n"


def refuse_odd_policies(policies: list[dict]) -> None:
    """Raise Refusal, with one sentence, for policies that cannot be written or stand in each other's way."""
    names: set[str] = set()
    owners: dict[str, str] = {}
    for policy in policies:
        name = policy["name"]
        if not NAME.match(name):
            raise Refusal(f'"{name}" cannot name a log policy: use letters, digits, hyphens and underscores.')
        if name in names:
            raise Refusal(f'Two log policies are named "{name}": give each one a name of its own.')
        names.add(name)
        if not policy["paths"]:
            raise Refusal(f'The log policy "{name}" has no paths.')
        for path in policy["paths"]:
            if not PATH.match(path):
                raise Refusal(
                    f'The log policy "{name}" has the path "{path}": write an absolute one without blanks or quotes.'
                )
            if path in owners:
                raise Refusal(
                    f'The log policies "{owners[path]}" and "{name}" both rotate {path}: leave it to one of them.'
                )
            owners[path] = name


def concerns(line: str, contents: dict[str, str]) -> bool:
    """Whether an error of logrotate is about one of these files or their logs, and not somebody else's."""
    if any(re.search(rf"(?:^error: |file ){re.escape(name)}(?![\w.-])", line) for name in contents):
        return True
    logs = [log for text in contents.values() for log in re.findall(r"^(/.*) \{$", text, re.MULTILINE)]
    named = re.findall(r"/[^\s\":]+", line)
    return any(fnmatch.fnmatchcase(path, pattern) for path in named for log in logs for pattern in log.split())


def judge(directory: str, contents: dict[str, str], removed: set[str]) -> str:
    """What logrotate has against files in a copy of a directory; empty if nothing, or if it is not installed.

    contents: text by file name. removed: names that the copy shall not have.
    """
    with tempfile.TemporaryDirectory(prefix="groundwork-logrotate-") as place:
        copy = os.path.join(place, "logrotate.d")
        os.mkdir(copy, 0o755)
        present = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        for name in present:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not name.startswith(".") and not name.endswith(SKIPPED) and name not in removed:
                shutil.copyfile(path, os.path.join(copy, name))
        for name, text in contents.items():
            with open(os.path.join(copy, name), "w", encoding="utf-8") as stream:
                stream.write(text)
        for name in os.listdir(copy):
            os.chmod(os.path.join(copy, name), 0o644)
        command = ["logrotate", "--debug", "--state", os.path.join(place, "state"), copy]
        code, output, errors = run(command)
        if code == MISSING:
            return ""
        complaints = [line for line in (errors + output).splitlines() if line.startswith("error:")]
        return "; ".join(line.removeprefix("error: ") for line in complaints if concerns(line, contents))


def bring_about(params: dict, check: bool, diff: bool) -> dict:
    """Place the policies. Returns what module template_tree returns. Raises Refusal."""
    policies, directory = params["policies"], params["directory"]
    refuse_odd_policies(policies)
    contents = {policy["name"]: render(policy) for policy in policies}
    files = [
        {
            "path": os.path.join(directory, name),
            "content": text,
            "owner": "root",
            "group": "root",
            "mode": "0644",
            "validate": "",
            "create_only": False,
            "secret": False,
        }
        for name, text in contents.items()
    ]
    plan = {"files": files, "directories": [], "directory_mode": "0755", "manifest": params["manifest"]}
    result = tree.place(plan, check=True, diff=diff)
    if not result["changed"]:
        return result if check else tree.place(plan, check=False, diff=diff)
    recorded = read_json(os.path.join(tree.MANIFESTS, f"{params['manifest']}.json")).get("paths", [])
    removed = {os.path.basename(path) for path in recorded if os.path.dirname(path) == directory} - set(contents)
    faults = judge(directory, contents, removed)
    if faults and not check:
        raise Refusal(f"logrotate does not accept the policies, and nothing was changed: {faults}")
    if faults:
        result["warnings"].append(f"logrotate does not accept the policies yet: {faults}")
    return result if check else tree.place(plan, check=False, diff=diff)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    try:
        result = bring_about(module.params, module.check_mode, module._diff)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)
