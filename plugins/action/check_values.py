# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the values of roles before anything touches a host. Documented in plugins/modules/check_values.py.

Nothing here may import what ansible-core 2.17 or 2.18 lacks: those get the sentence that they are too old.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version

from ansible_collections.groundwork.django.plugins.plugin_utils import site_rules, specs

_ROLES = Path(__file__).resolve().parents[2] / "roles"
_SETTINGS = "site_settings"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_VALUES = frozenset({"hostvars", "vars", "groups", "ansible_facts"})
_UNDEFINED = re.compile(r"'([A-Za-z_][A-Za-z0-9_.]*)' is undefined")


class ActionModule(ActionBase):
    """Collects the problems of all roles asked for, and fails once with one sentence for each."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset({"roles"})

    def run(self, tmp=None, task_vars=None):
        """Return ``msg``, ``changed: false`` and, where something is wrong, ``failed``."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        too_old = site_rules.ansible_too_old(ansible_version) or site_rules.python_too_old(sys.version_info)
        if too_old:
            return _failed(result, [too_old])

        checks = RoleChecks(self._templar, task_vars)
        paths = self._role_paths()
        for name, path in paths.items():
            checks.add(name, path)
        problems = checks.problems()
        if _SETTINGS in paths:
            problems += list(_site_problems(checks, task_vars, self._templar))
        if problems:
            return _failed(result, problems)
        result.update(changed=False, msg=f"{checks.count} values of {len(paths)} roles are in order.")
        return result

    def _role_paths(self) -> dict[str, Path]:
        """The roles to check, by short name, in order; site_settings first when one of them depends on it."""
        own = self._task._role
        paths = {}
        for name in self._wanted_roles():
            short = str(name).rsplit(".", maxsplit=1)[-1]
            is_own = own is not None and own.get_name(include_role_fqcn=False) == short
            paths[short] = Path(own._role_path) if is_own else _ROLES / short
            if not (paths[short] / "meta" / "argument_specs.yml").is_file():
                raise AnsibleError(f"There is no role {short} with meta/argument_specs.yml in {paths[short].parent}.")
        if _SETTINGS not in paths and any(_depends_on_settings(path) for path in paths.values()):
            paths = {_SETTINGS: _ROLES / _SETTINGS, **paths}
        return paths

    def _wanted_roles(self) -> list[str]:
        """Option ``roles``, or the role that the task stands in."""
        unknown = set(self._task.args) - self._VALID_ARGS
        if unknown:
            raise AnsibleError(f"check_values has no option {', '.join(sorted(unknown))}; it takes roles only.")
        roles = self._task.args.get("roles")
        if roles is None and self._task._role is not None:
            return [self._task._role.get_name(include_role_fqcn=False)]
        if isinstance(roles, str):
            roles = [roles]
        if not isinstance(roles, (list, tuple)) or not roles:
            raise AnsibleError("check_values needs the list roles where it is not called from a role.")
        return list(roles)


class RoleChecks:
    """The values of roles, worked out and checked against their argument specs and their rules."""

    def __init__(self, templar, task_vars: Mapping[str, object]):
        self._templar = templar
        self._vars = task_vars
        self._has_facts = bool((task_vars.get("ansible_facts") or {}).get("distribution"))
        self._specs: dict[str, Mapping[str, object]] = {}
        self._rules: list[tuple[str, Mapping[str, str]]] = []
        self.values: dict[str, object] = {}
        self.bad: dict[str, list[str]] = {}
        self.count = 0

    def add(self, role: str, path: Path) -> None:
        """Take in the options of ``role``, whose folder is ``path``, and its list ``__<role>_rules``."""
        self._specs.update(specs.load_options(path))
        self._rules += [(role, rule) for rule in self._vars.get(f"__{role}_rules") or []]

    def problems(self) -> list[str]:
        """One sentence for each fault; a value taken from a faulty one is not named again."""
        missing: dict[str, list[str]] = {}
        for name, spec in self._specs.items():
            self.count += 1
            if name not in self._vars:
                if spec.get("required"):
                    self.bad[name] = [f"{name} is not set: {specs.remedy_for(name, spec)}{self._similar(name)}."]
                continue
            try:
                value = self.values[name] = self._templar.template(self._vars[name])
            except AnsibleError as error:
                self.bad[name] = self._template_problem(name, spec, error, missing)
                continue
            found = list(specs.faults(name, spec, value))
            if found:
                self.bad[name] = found
        sentences = [text for name, texts in self.bad.items() if not self._comes_from_bad(name) for text in texts]
        sentences += [_missing_sentence(inner, names) for inner, names in missing.items() if inner not in self.bad]
        return sentences + list(self._rule_problems())

    def _template_problem(
        self, name: str, spec: Mapping[str, object], error: Exception, missing: dict[str, list[str]]
    ) -> list[str]:
        """Sentences for a value that cannot be worked out; undefined inner names are gathered in ``missing``."""
        undefined = _UNDEFINED.search(str(error))
        if undefined:
            missing.setdefault(undefined.group(1), []).append(name)
            return []
        if self._needs_facts(error, self._words(name)):
            return []
        if "vault" in type(error).__name__.lower() or "Decryption failed" in str(error):
            return [f"{name} cannot be decrypted: give the vault password that it was encrypted with."]
        words = self._words(name)
        if specs.is_secret(name, spec) or any(specs.is_secret(word) for word in words):
            return [f"{name} cannot be worked out from its template: look at the expression that it is set to."]
        reason = " ".join(str(error).split())
        return [f"{name} cannot be worked out from its template: {reason[:200].rstrip('.')}."]

    def _rule_problems(self) -> Iterator[str]:
        """The sentences of the rules that do not hold; rules about values already found faulty are left out."""
        for role, rule in self._rules:
            if any(word in self.bad for word in _WORD.findall(str(rule["that"]))):
                continue
            try:
                holds = self._templar.evaluate_conditional(rule["that"])
                message = None if holds else self._templar.template(rule["message"])
            except AnsibleError as error:
                if self._needs_facts(error, set(_WORD.findall(str(rule["that"])))):
                    continue
                undefined = _UNDEFINED.search(str(error))
                reason = f"{undefined.group(1)} is not defined" if undefined else type(error).__name__
                message = f'A rule of role {role} cannot be checked ({reason}): "{rule["that"]}".'
            if message is not None:
                yield " ".join(str(message).split())

    def _needs_facts(self, error: Exception, words: set[str]) -> bool:
        """Whether an expression of ``words`` failed only because the host's facts are not there yet.

        A check before the facts leaves such a value to the check after them.
        """
        if self._has_facts or "has no attribute" not in str(error):
            return False
        seen: set[str] = set()
        while words - seen:
            word = (words - seen).pop()
            seen.add(word)
            words = words | self._words(word)
        return "ansible_facts" in seen

    def _words(self, name: str) -> set[str]:
        """The names that occur in the raw value of variable ``name``, where that holds a template."""
        raw = str(self._vars[name]) if name in self._vars and name not in _NOT_VALUES else ""
        return set(_WORD.findall(raw)) if "{{" in raw or "{%" in raw else set()

    def _comes_from_bad(self, name: str) -> bool:
        """Whether the value is taken from another one that has a fault itself."""
        return any(word != name and word in self.bad for word in self._words(name))

    def _similar(self, name: str) -> str:
        """A hint at a variable that is set and spelled nearly like ``name``, or an empty string."""
        import difflib

        prefix = name.split("_", maxsplit=1)[0] + "_"
        known = [key for key in self._vars if key.startswith(prefix) and key not in self._specs]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        return f"; {near[0]} is set, did you mean that" if near else ""


def _site_problems(checks: RoleChecks, task_vars: Mapping[str, object], templar) -> Iterator[str]:
    """The rules about the site as a whole and about the hosts, for the values that have no fault of their own."""
    values = {name: value for name, value in checks.values.items() if name not in checks.bad}
    facts = task_vars.get("ansible_facts") or {}
    host = str(task_vars.get("inventory_hostname", "this host"))

    unsupported = site_rules.unsupported_system(facts)
    if unsupported:
        yield f"{host}: {unsupported}"
    name = str(values.get("groundwork_site_name") or "")
    if name:
        yield from site_rules.site_name_faults(name)
    domains = values.get("groundwork_site_domains") or []
    yield from site_rules.domain_faults(domains, str(values.get("groundwork_tls_mode") or ""))
    if name and domains:
        site = site_rules.Site(name, tuple(map(str, domains)), host, str(values.get("groundwork_site_user") or ""))
        others = [*site_rules.placed_sites(facts, host), *_inventory_sites(task_vars, host, templar)]
        yield from site_rules.shared_domains(site, others)
    if "groundwork_database_password" not in checks.bad:
        yield from site_rules.database_faults(
            str(values.get("groundwork_database_host") or ""), values.get("groundwork_database_password")
        )


def _inventory_sites(task_vars: Mapping[str, object], host: str, templar) -> Iterator[site_rules.Site]:
    """The sites of the inventory's other hosts; a host whose values cannot be worked out is left to its own check."""
    hostvars = task_vars.get("hostvars") or {}
    for other in hostvars:
        if other == host:
            continue
        try:
            others_vars = hostvars[other]
            name = others_vars.get("groundwork_site_name")
            domains = others_vars.get("groundwork_site_domains")
            name, domains = templar.template(name), templar.template(domains)
        except AnsibleError:  # the other host says so itself
            continue
        if isinstance(name, str) and isinstance(domains, (list, tuple)):
            yield site_rules.Site(name, tuple(map(str, domains)), str(other))


def _missing_sentence(inner: str, names: list[str]) -> str:
    """The sentence about ``inner``, which is nowhere defined and without which ``names`` have no value."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    where = "the vault.yml of the environment, in group_vars" if inner.startswith("vault_") else "group_vars"
    return f"{names[0]}{more} needs {inner}, which is not defined: put it into {where}."


def _depends_on_settings(path: Path) -> bool:
    """Whether the role in ``path`` names site_settings in its meta/main.yml."""
    meta = path / "meta" / "main.yml"
    return meta.is_file() and _SETTINGS in meta.read_text(encoding="utf-8")


def _failed(result: dict, problems: list[str]) -> dict:
    """``result`` as the failure that says ``problems``, one on each line."""
    result.update(failed=True, changed=False, msg="\n".join(problems))
    return result
