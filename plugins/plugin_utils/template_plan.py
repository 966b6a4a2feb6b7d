# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What template_tree does on the controller: render a tree of templates into the plan that the module carries out."""

from __future__ import annotations

import datetime
import fnmatch
import os
import pwd
import re
import time

from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.template import trust_as_template

OPTIONS = frozenset(
    (
        "src",
        "rename",
        "repeat",
        "exclude",
        "files",
        "directory_mode",
        "directories",
        "assemble",
        "manifest",
        "lstrip_blocks",
    )
)
FILE_KEYS = frozenset(("path", "owner", "group", "mode", "validate", "create_only", "secret"))
DIRECTORY_KEYS = frozenset(("path", "owner", "group", "mode"))
ASSEMBLE_KEYS = frozenset(("path", "parts", "owner", "group", "mode", "validate"))
DEFAULTS = {"owner": "root", "group": "root", "mode": "0644", "validate": "", "create_only": False, "secret": False}
MODE = re.compile(r"^[0-7]{3,4}$")
PARTS = re.compile(r"^(?:/[^*?\[]+)+/[^/]+$")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")


def find_sources(root: str, src: str) -> list[str]:
    """Paths of the files of `src`, relative to the templates directory `root`; no link to a directory is entered."""
    start = os.path.join(root, src)
    if not os.path.isdir(start):
        return [src]
    found = []
    for folder, folders, names in os.walk(start):
        folders.sort()
        for name in sorted(names):
            if name != ".gitkeep":
                found.append(os.path.relpath(os.path.join(folder, name), root))
    return found


def target_of(source: str, rename: dict[str, str]) -> str:
    """Path on the host of a source path: no `.j2` at the end, `rename` applied, a slash in front."""
    path = source.removesuffix(".j2")
    return rename_path("/" + path, rename)


def targets_of(source: str, rename: dict[str, str], repeat: dict[str, dict]) -> dict[str, object]:
    """Paths on the host of a source path, each with its item; one, with None, where nothing is repeated."""
    path = target_of(source, rename)
    for placeholder, items in repeat.items():
        if placeholder in path:
            return {path.replace(placeholder, name): {"name": name, "value": value} for name, value in items.items()}
    return {path: None}


def rename_path(path: str, rename: dict[str, str]) -> str:
    """Replace every key of `rename` by its value in a path."""
    for old, new in rename.items():
        path = path.replace(old, new)
    return path


def attributes_of(path: str, entries: list[dict]) -> dict:
    """Owner, group, mode and so on of a target path: defaults, overridden by each matching entry in order."""
    result = dict(DEFAULTS)
    for entry in entries:
        if fnmatch.fnmatchcase(path, entry["path"]):
            result.update({key: value for key, value in entry.items() if key != "path"})
    return result


def variables_of(source: str, full: str, path: str) -> dict[str, object]:
    """The variables that ansible.builtin.template offers to a template; its own function for it is internal."""
    info = os.stat(full)
    try:
        owner: str | int = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        owner = info.st_uid
    return {
        "template_host": os.uname().nodename,
        "template_path": source,
        "template_mtime": datetime.datetime.fromtimestamp(info.st_mtime),
        "template_uid": owner,
        "template_run_date": datetime.datetime.now(),
        "template_destpath": path,
        "template_fullpath": full,
    }


def read_text(path: str) -> str:
    """Content of a file; bytes that are no text survive as such."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()


def managed_text(full: str) -> str:
    """The variable ansible_managed as the setting of the same name forms it."""
    form = constants.config.get_config_value("DEFAULT_MANAGED_STR")
    text = form.format(host="{{ template_host }}", uid="{{ template_uid }}", file="{{ template_path }}")
    return trust_as_template(time.strftime(text, time.localtime(os.stat(full).st_mtime)))


class Renderer:
    """Renders single templates exactly as ansible.builtin.template does.

    loader, templar: those of the plugin. variables: what templates see. lstrip_blocks: as Jinja has it.
    """

    def __init__(self, loader, templar, variables: dict, lstrip_blocks: bool = False) -> None:
        self._loader = loader
        self._templar = templar
        self._variables = variables
        self._overrides = {"trim_blocks": True, "lstrip_blocks": lstrip_blocks, "newline_sequence": "\n"}
        self._base = [*variables.get("ansible_search_path", []), loader.get_basedir()]
        self._templars: dict[str, object] = {}

    def text(self, full: str, source: str, path: str = "", root: str = "", item: object = None) -> str:
        """The text of the template in the file `full`. Raises AnsibleActionFail with one sentence.

        source: its name below the templates/ of a role, whose directory is `root`. path: where the text goes. item:
        what it sees as template_item.
        """
        variables = {**self._variables, **variables_of(source, full, path)}
        if item is not None:
            variables["template_item"] = item
        if "ansible_managed" not in variables:
            variables["ansible_managed"] = managed_text(full)
        try:
            text = trust_as_template(self._loader.get_text_file_contents(full))
            templar = self._templar_of(os.path.dirname(full), root, variables)
            result = templar.template(text, escape_backslashes=False, overrides=self._overrides)
        except AnsibleError as error:
            raise AnsibleActionFail(f"templates/{source} cannot be rendered: {to_text(error.message)}") from error
        return "" if result is None else str(result)

    def _templar_of(self, folder: str, root: str, variables: dict):
        """A templar that finds what templates of a folder include, and sees variables."""
        templar = self._templars.get(folder)
        if templar is None:
            search = []
            for place in (*self._base, *([root] if root else []), folder):
                search += [os.path.join(place, "templates"), place]
            templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
            self._templars[folder] = templar
        else:
            templar.available_variables = variables
        return templar


class TemplatePlanner:
    """Renders below the templates/ of a role, or beside the play where there is no role.

    role_path: directory of the role, empty outside of one. loader, templar: those of the action. task_vars: the
    variables that templates see.
    """

    def __init__(self, role_path: str, loader, templar, task_vars: dict) -> None:
        self._role_path = role_path
        self._loader = loader
        self._templar = templar
        self._task_vars = task_vars

    def plan(self, args: dict) -> dict:
        """Check the options, render everything, and return what the module has to bring about.

        Raises AnsibleActionFail with one sentence.
        """
        unknown = sorted(set(args) - OPTIONS)
        if unknown:
            raise AnsibleActionFail(f"template_tree has no option named {', '.join(unknown)}.")
        sources = self._list(args, "src")
        if not sources:
            raise AnsibleActionFail("template_tree needs src, a path or a list of paths below the role's templates/.")
        rename = self._rename(args.get("rename") or {})
        repeat = self._repeat(args.get("repeat") or {})
        exclude = self._list(args, "exclude")
        entries = self._entries(args, "files", FILE_KEYS)
        directories = self._entries(args, "directories", DIRECTORY_KEYS)
        for entry in directories:
            entry["path"] = os.path.normpath(rename_path(entry["path"], rename))
            if not entry["path"].startswith("/"):
                raise AnsibleActionFail(f"The directory {entry['path']} of directories is not an absolute path.")
        assemble = self._entries(args, "assemble", ASSEMBLE_KEYS)
        for entry in assemble:
            for key in ("path", "parts"):
                entry[key] = rename_path(str(entry.get(key) or ""), rename)
            if not entry["path"].startswith("/") or not PARTS.match(entry["parts"]):
                raise AnsibleActionFail(
                    "An entry of assemble has an absolute path, and parts such as /etc/app.d/*.conf."
                )
        manifest = args.get("manifest") or ""
        if manifest and not NAME.match(manifest):
            raise AnsibleActionFail(f'The manifest name "{manifest}" may hold letters, digits and ". _ @ -" only.')
        mode = args.get("directory_mode") or "0755"
        self._check_mode(mode, "directory_mode")

        wanted: dict[str, tuple[str, str, object]] = {}
        skipped: list[str] = []
        for src in sources:
            root, relative = self._locate(src)
            for source in find_sources(root, relative):
                targets = targets_of(source, rename, repeat)
                if not targets:
                    skipped.append(target_of(source, rename))
                for path, item in targets.items():
                    if any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude):
                        skipped.append(path)
                    elif path in wanted and wanted[path] != (root, source, item):
                        raise AnsibleActionFail(f"{path} is rendered from both {wanted[path][1]} and {source}.")
                    else:
                        wanted[path] = (root, source, item)
        if not wanted and not skipped:
            raise AnsibleActionFail(f"There is no file below templates/{', templates/'.join(sources)}.")
        known = [*wanted, *skipped]
        for entry in entries:
            if not any(fnmatch.fnmatchcase(path, entry["path"]) for path in known):
                raise AnsibleActionFail(f'The pattern "{entry["path"]}" of files matches no target path.')

        lstrip_blocks = boolean(args.get("lstrip_blocks") or False)
        renderer = Renderer(self._loader, self._templar, self._task_vars, lstrip_blocks)
        files = []
        for path, (root, source, item) in wanted.items():
            full = os.path.join(root, source)
            if source.endswith(".j2"):
                content = renderer.text(full, source, path, os.path.dirname(root), item)
            else:
                content = read_text(full)
            files.append({"path": path, "content": content, **attributes_of(path, entries)})
        return {
            "files": files,
            "directories": directories,
            "directory_mode": mode,
            "assemble": [{**DEFAULTS, **entry} for entry in assemble],
            "manifest": manifest,
        }

    @staticmethod
    def _list(args: dict, name: str) -> list[str]:
        value = args.get(name)
        if value is None:
            return []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise AnsibleActionFail(f"{name} is a list of text.")
        return [item for item in value if item]

    @staticmethod
    def _check_mode(value: object, where: str) -> None:
        if not isinstance(value, str) or not MODE.match(value):
            raise AnsibleActionFail(f'The mode "{value}" of {where} is not quoted octal text such as "0644".')

    @staticmethod
    def _rename(value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            raise AnsibleActionFail("rename is a dictionary of text to text.")
        for old, new in value.items():
            if not isinstance(new, str) or not old or not new or "/" in new or ".." in new:
                raise AnsibleActionFail(
                    f'rename cannot replace "{old}" by "{new}": a value is text without "/" and "..".'
                )
        return dict(value)

    @staticmethod
    def _repeat(value: object) -> dict[str, dict]:
        if not isinstance(value, dict) or not all(isinstance(items, dict) for items in value.values()):
            raise AnsibleActionFail("repeat is a dictionary of text to dictionaries.")
        for placeholder, items in value.items():
            for name in items:
                if not placeholder or not NAME.match(str(name)):
                    raise AnsibleActionFail(
                        f'repeat cannot replace "{placeholder}" by "{name}": use letters and digits.'
                    )
        return {placeholder: {str(name): item for name, item in items.items()} for placeholder, items in value.items()}

    def _entries(self, args: dict, name: str, keys: frozenset[str]) -> list[dict]:
        value = args.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise AnsibleActionFail(f"{name} is a list of dictionaries.")
        result = []
        for item in value:
            entry = {key: content for key, content in item.items() if content is not None}
            unknown = sorted(set(entry) - keys)
            if unknown:
                raise AnsibleActionFail(f"An entry of {name} has no key {', '.join(unknown)}.")
            if not isinstance(entry.get("path"), str) or not entry["path"]:
                raise AnsibleActionFail(f"An entry of {name} has no path.")
            if "mode" in entry:
                self._check_mode(entry["mode"], entry["path"])
            for key in ("create_only", "secret"):
                if key in entry:
                    entry[key] = boolean(entry[key])
            for key in ("owner", "group"):
                if key in entry:
                    entry[key] = str(entry[key])
            if entry.get("validate") and "%s" not in entry["validate"]:
                raise AnsibleActionFail(f"validate of {entry['path']} has no %s, the place of the file to check.")
            result.append(entry)
        return result

    def _locate(self, src: str) -> tuple[str, str]:
        """The templates directory that holds `src`, and `src` made plain."""
        relative = os.path.normpath(src)
        if relative.startswith(("/", "..")) or relative == "." or relative.split("/")[0] == "shared":
            raise AnsibleActionFail(f'src "{src}" is not a path of target files below templates/.')
        roots = [self._role_path] if self._role_path else []
        roots += [*self._task_vars.get("ansible_search_path", []), self._loader.get_basedir()]
        for root in roots:
            templates = os.path.join(root, "templates")
            if os.path.exists(os.path.join(templates, relative)):
                return templates, relative
        raise AnsibleActionFail(f"There is no templates/{relative} in {roots[0]}.")
