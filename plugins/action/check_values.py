# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the values of roles before anything touches a host. Documented in plugins/modules/check_values.py.

Nothing here may import what ansible-core 2.17 or 2.18 lacks: those get the sentence that they are too old.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible_collections.groundwork.django.plugins.plugin_utils import site_rules, specs

_ROLES = Path(__file__).resolve().parents[2] / "roles"
_SETTINGS = "site_settings"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALIAS = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}\Z")
_NOT_VALUES = frozenset({"hostvars", "vars", "groups", "ansible_facts"})
#: what a check of the host compares with the sites that are already on it
_SITE_VALUES = frozenset({"groundwork_site_name", "groundwork_site_domains", "groundwork_site_user"})
_UNDEFINED = re.compile(r"'([A-Za-z_][A-Za-z0-9_.]*)' is undefined")


class ActionModule(ActionBase):
    """Collects the problems of all roles asked for, and fails once with one sentence for each."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset({"roles", "of_the_host_only"})

    def run(self, tmp=None, task_vars=None):
        """Return ``msg``, ``changed: false`` and, where something is wrong, ``failed``."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        too_old = site_rules.ansible_too_old(ansible_version) or site_rules.python_too_old(sys.version_info)
        if too_old:
            return _failed(result, [too_old])

        checks = RoleChecks(self._templar, task_vars, boolean(self._task.args.get("of_the_host_only", False)))
        paths = self._role_paths()
        for name, path in paths.items():
            checks.add(name, path)
        checks.work_out()
        hosts = []
        if _SETTINGS in paths:
            _check_site_values(checks)
            hosts = list(_host_problems(checks, task_vars, self._templar))
        problems = checks.problems() + hosts
        if problems:
            return _failed(result, problems)
        roles = "1 role" if len(paths) == 1 else f"{len(paths)} roles"
        site = [checks.values.get(name) for name in ("groundwork_site_name", "groundwork_environment")]
        of_site = f" ({', '.join(map(str, site))})" if all(site) else ""
        result.update(changed=False, msg=f"{checks.count} values of {roles} are in order{of_site}.")
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
            known = " and ".join(sorted(self._VALID_ARGS))
            raise AnsibleError(f"check_values has no option {', '.join(sorted(unknown))}; it takes {known}.")
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

    def __init__(self, templar, task_vars: Mapping[str, object], of_the_host_only: bool = False):
        self._vars = task_vars
        self._of_the_host_only = of_the_host_only
        # what has been worked out replaces its template, so no template is rendered twice
        self._known = dict(task_vars)
        self._templar = templar.copy_with_new_env(available_variables=self._known)
        self._has_facts = bool((task_vars.get("ansible_facts") or {}).get("distribution"))
        self._specs: dict[str, Mapping[str, object]] = {}
        self._rules: list[tuple[str, Mapping[str, str]]] = []
        self._missing: dict[str, str] = {}
        self._seen_words: dict[str, set[str]] = {}
        self.values: dict[str, object] = {}
        self.bad: dict[str, list[str]] = {}
        self.count = 0

    def add(self, role: str, path: Path) -> None:
        """Take in the options of ``role``, whose folder is ``path``, and its list ``__<role>_rules``."""
        options = specs.load_options(path)
        self._specs.update(options)
        self._rules += [(role, rule) for rule in self._vars.get(f"__{role}_rules") or []]

    def work_out(self) -> None:
        """Template every value that has an option, and check it against its spec."""
        for name, spec in self._specs.items():
            if self._is_settled({name}):
                continue
            self.count += 1
            if name not in self._vars:
                if spec.get("required"):
                    self.bad[name] = [f"{name} is not set: {specs.remedy_for(name, spec)}{self._similar(name)}."]
                continue
            try:
                value = self.values[name] = self._known[name] = self._value_of(self._vars[name])
            except AnsibleError as error:
                self.bad[name] = self._template_problem(name, spec, error)
                continue
            if list(specs.faults(name, spec, value)):
                self.bad[name] = list(specs.faults(name, spec, value, secret=self._is_secret(name, spec)))

    def _value_of(self, raw: object) -> object:
        """``raw`` worked out. What needs no template engine, the most of all values, does without its cost."""
        if isinstance(raw, str):
            if "{" not in raw:
                return raw
            alias = _ALIAS.match(raw)
            if alias and alias.group(1) in self.values:
                return self.values[alias.group(1)]
        elif raw is None or isinstance(raw, (bool, int)):
            return raw
        return self._templar.template(raw)

    def problems(self) -> list[str]:
        """One sentence for each fault; what only follows from a fault already told is left out."""
        sentences = [text for name, texts in self.bad.items() if not self._follows_from_bad({name}) for text in texts]
        sentences += [_missing_sentence(inner, name) for inner, name in self._missing.items() if inner not in self.bad]
        if not self._of_the_host_only:
            sentences += self._misspelled()
        return sentences + list(self._rule_problems())

    def _template_problem(self, name: str, spec: Mapping[str, object], error: Exception) -> list[str]:
        """Sentences for a value that cannot be worked out; undefined inner names are gathered in ``_missing``."""
        undefined = _UNDEFINED.search(str(error))
        if undefined:
            self._missing.setdefault(undefined.group(1), name)
            return []
        if self._needs_facts(error, {name}):
            return []
        if "decrypt" in str(error).lower():
            return [f"{name} cannot be decrypted: give the vault password that it was encrypted with."]
        if self._is_secret(name, spec):
            return [f"{name} cannot be worked out from its template: look at the expression that it is set to."]
        reason = " ".join(str(error).split())
        return [f"{name} cannot be worked out from its template: {reason[:200].rstrip('.')}."]

    def _rule_problems(self) -> Iterator[str]:
        """The sentences of the rules that do not hold; rules about values already found faulty are left out."""
        for role, rule in self._rules:
            words = set(_WORD.findall(str(rule["that"])))
            if self._is_settled(words) or words & self.bad.keys() or self._follows_from_bad(words):
                continue
            try:
                holds = self._templar.evaluate_conditional(rule["that"])
                message = None if holds else self._templar.template(rule["message"])
            except AnsibleError as error:
                if self._needs_facts(error, words):
                    continue
                undefined = _UNDEFINED.search(str(error))
                reason = f"{undefined.group(1)} is not defined" if undefined else type(error).__name__
                message = f'A rule of role {role} cannot be checked ({reason}): "{rule["that"]}".'
            if message is not None:
                yield " ".join(str(message).split())

    def _is_secret(self, name: str, spec: Mapping[str, object]) -> bool:
        """Whether the value must not be shown: by its name or spec, or because it is made of a secret or a "
        "vault's value."""
        return specs.is_secret(name, spec) or any(
            specs.is_secret(word) or word.startswith("vault_") or any(map(_is_encrypted, _leaves(self._vars.get(word))))
            for word in self._origins({name}) - _NOT_VALUES
        )

    def _needs_facts(self, error: Exception, words: set[str]) -> bool:
        """Whether an expression of ``words`` failed only because the host's facts are not there yet.

        A check before the facts leaves such a value to the check after them.
        """
        return not self._has_facts and "has no attribute" in str(error) and "ansible_facts" in self._origins(words)

    def _is_settled(self, words: set[str]) -> bool:
        """Whether an earlier check has judged something made of ``words``, which no fact of the host can change."""
        return self._of_the_host_only and "ansible_facts" not in self._origins(words) and not words & _SITE_VALUES

    def _follows_from_bad(self, words: set[str]) -> bool:
        """Whether something made of the variables ``words`` is made of one that has a fault of its own."""
        return bool(self.bad) and bool((self._origins(words) - words) & self.bad.keys())

    def _origins(self, words: set[str]) -> set[str]:
        """``words`` and all names that occur in the templates behind them."""
        found: set[str] = set()
        todo = set(words)
        while todo:
            word = todo.pop()
            found.add(word)
            todo |= self._words(word) - found
        return found

    def _words(self, name: str) -> set[str]:
        """The names that occur in the raw value of variable ``name``, where that holds a template."""
        if name not in self._seen_words:
            raw = self._vars.get(name) if name not in _NOT_VALUES else None
            self._seen_words[name] = {
                word for text in _leaves(raw) if isinstance(text, str) and "{" in text for word in _WORD.findall(text)
            }
        return self._seen_words[name]

    def _near(self, name: str, known: Iterable[str], cutoff: float) -> str:
        """The one of ``known`` that is spelled nearly like ``name``, or an empty string."""
        import difflib

        return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), "")

    def _unknown(self, prefixes: tuple[str, ...]) -> list[str]:
        """The variables that begin like those of the roles, and that no role has."""
        return [name for name in self._vars if name.startswith(prefixes) and name not in self._specs]

    def _misspelled(self) -> Iterator[str]:
        """A sentence for each variable that is set, that no role has, and that is spelled nearly like one they have."""
        for name in self._unknown(tuple({_prefix(known) for known in self._specs})):
            near = self._near(name, self._specs, 0.9)
            if near and near not in self.bad:
                yield f"{name} is set, but there is no such variable: did you mean {near}?"

    def _similar(self, name: str) -> str:
        """A hint at a variable that is set and spelled nearly like ``name``, or an empty string."""
        near = self._near(name, self._unknown((_prefix(name),)), 0.85)
        return f"; {near} is set, did you mean that" if near else ""


def _prefix(name: str) -> str:
    """The first word of a variable's name, which says whose it is."""
    return name.split("_", maxsplit=1)[0] + "_"


def _leaves(raw: object) -> Iterator[object]:
    """The scalars in a raw value, however deep."""
    if isinstance(raw, Mapping):
        for value in raw.values():
            yield from _leaves(value)
    elif isinstance(raw, (list, tuple)):
        for value in raw:
            yield from _leaves(value)
    else:
        yield raw


def _is_encrypted(raw: object) -> bool:
    """Whether a raw scalar is one that ansible-vault encrypted in place."""
    return type(raw).__name__ in ("EncryptedString", "AnsibleVaultEncryptedUnicode")


def _check_site_values(checks: RoleChecks) -> None:
    """Add to ``checks`` what is wrong with the site's name, its domains and its database, beyond type and kind."""
    found = {
        "groundwork_site_name": lambda name: site_rules.site_name_faults(str(name)),
        "groundwork_site_domains": lambda domains: site_rules.domain_faults(
            domains, str(checks.values.get("groundwork_tls_mode") or "")
        ),
        "groundwork_database_password": lambda password: site_rules.database_faults(
            str(checks.values.get("groundwork_database_host") or ""), password
        ),
    }
    for name, faults_of in found.items():
        if name in checks.values and name not in checks.bad and (faults := list(faults_of(checks.values[name]))):
            checks.bad[name] = faults


def _host_problems(checks: RoleChecks, task_vars: Mapping[str, object], templar) -> Iterator[str]:
    """What is wrong with the host, or between its site and other sites, for values without a fault of their own."""
    values = {name: value for name, value in checks.values.items() if name not in checks.bad}
    facts = task_vars.get("ansible_facts") or {}
    host = str(task_vars.get("inventory_hostname", "this host"))

    unsupported = site_rules.unsupported_system(facts)
    if unsupported:
        yield f"{host}: {unsupported}"
    name, domains = values.get("groundwork_site_name"), values.get("groundwork_site_domains")
    if name and domains:
        site = site_rules.Site(name, tuple(map(str, domains)), host, str(values.get("groundwork_site_user") or ""))
        others = [*site_rules.placed_sites(facts, host), *_inventory_sites(task_vars, host, templar)]
        yield from site_rules.shared_domains(site, others)


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


def _missing_sentence(inner: str, name: str) -> str:
    """The sentence about ``inner``, which is nowhere defined and without which ``name`` has no value."""
    where = "the vault.yml of the environment, in group_vars" if inner.startswith("vault_") else "group_vars"
    return f"{name} needs {inner}, which is not defined: put it into {where}."


def _depends_on_settings(path: Path) -> bool:
    """Whether the role in ``path`` names site_settings in its meta/main.yml."""
    meta = path / "meta" / "main.yml"
    return meta.is_file() and _SETTINGS in meta.read_text(encoding="utf-8")


def _failed(result: dict, problems: list[str]) -> dict:
    """``result`` as the failure that says ``problems``, one on each line."""
    result.update(failed=True, changed=False, msg="\n".join(problems))
    return result
