# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module file_settings does on the host."""

from __future__ import annotations

import os
import re
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    Refusal,
    check_parents,
    lstat,
    make_stage,
    read_text,
    remove_stale_stages,
    replace,
    sync_directory,
    write_new,
)

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "settings": {"type": "dict", "required": True},
    "separator": {"type": "str", "default": "\t"},
}
"""Options of the module."""
NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def with_settings(text: str, settings: dict[str, str], separator: str = "\t") -> str:
    """`text` with one line for each setting, where the first one of that name was or at the end; all others stay.

    separator: what a new line has between name and value; a line that is there may have other blanks around it.
    """
    lines = text.splitlines()
    missing = dict(settings)
    kept = []
    for line in lines:
        name, *rest = (part.strip() for part in line.strip().split(separator.strip() or None, maxsplit=1) or [""])
        if name not in settings:
            kept.append(line)
        elif name in missing:
            wanted = missing.pop(name)
            kept.append(line if rest and rest[0] == wanted else f"{name}{separator}{wanted}")
    return "\n".join([*kept, *(f"{name}{separator}{value}" for name, value in missing.items())]) + "\n"


def checked(settings: dict) -> dict[str, str]:
    """The settings as text. Raises Refusal for a name or a value that would not stay one line of its own."""
    result = {name: str(value).strip() for name, value in settings.items()}
    for name, value in result.items():
        if not NAME.match(name) or not value or "\n" in value:
            raise Refusal(f'"{name}" cannot be set to "{value}": a setting is one word and a value of one line.')
    return result


def write(path: str, content: bytes, info: os.stat_result) -> None:
    """Replace a file, atomically and with owner and mode kept."""
    directory = os.path.dirname(path)
    remove_stale_stages(directory)
    stage = make_stage(directory)
    staged = os.path.join(stage, os.path.basename(path))
    try:
        write_new(staged, content, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))
        replace(staged, path)
    finally:
        if os.path.lexists(staged):
            os.unlink(staged)
        os.rmdir(stage)
    sync_directory(directory)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    path = module.params["path"]
    try:
        settings = checked(module.params["settings"])
        check_parents(path)
        info = lstat(path)
        if info is None and module.check_mode:
            # Its package comes with the real run.
            module.exit_json(changed=bool(settings))
        if info is None or not stat.S_ISREG(info.st_mode):
            raise Refusal(f"{path} is no regular file; only settings of a file that is there are changed.")
        before = read_text(path)
        after = with_settings(before, settings, module.params["separator"]) if settings else before
        if after != before and not module.check_mode:
            write(path, after.encode("utf-8", "surrogateescape"), info)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    result: dict = {"changed": after != before}
    if module._diff and after != before:
        result["diff"] = {"before_header": path, "after_header": path, "before": before, "after": after}
    module.exit_json(**result)
