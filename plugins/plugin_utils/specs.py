# SPDX-License-Identifier: GPL-3.0-or-later
"""Values against the argument_specs of a role: types, choices, nested options, kinds; one sentence for each fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from ansible_collections.groundwork.django.plugins.plugin_utils.kinds import kind_of

Options = Mapping[str, Mapping[str, object]]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECRET = re.compile(r"(?:^|_)(?:password|passphrase|secret|secrets|token|tokens|credentials|key|keys)\Z")
_PUBLIC = re.compile(r"(?:^|_)(?:ssh|public|authorized)_keys?\Z")
_CREDENTIALS = re.compile(r"(://)[^/\s@]*@")

#: type of the spec -> how a sentence calls it, and what to do about another one
_TYPES = {
    "str": ("text", "write it in quotes"),
    "path": ("a path", 'write it in quotes, like "/srv"'),
    "int": ("a whole number", "write digits only"),
    "float": ("a number", "write digits only"),
    "bool": ("true or false", "write one of the two without quotes"),
    "list": ("a list", "write one item for each line, each after a hyphen"),
    "dict": ("a mapping", "write one key and value for each line"),
}


def load_options(role_path: str | Path) -> dict[str, dict]:
    """The options of entry point ``main`` in ``meta/argument_specs.yml`` under ``role_path``, in their order.

    Raises FileNotFoundError without that file, and ValueError when it has no such entry point.
    """
    text = (Path(role_path) / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    specs = yaml.load(text, Loader=_LOADER)  # a safe loader, in C where there is one
    try:
        return specs["argument_specs"]["main"].get("options") or {}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{role_path}/meta/argument_specs.yml has no argument_specs.main") from error


def is_secret(name: str, spec: Mapping[str, object] | None = None) -> bool:
    """Whether the value under ``name`` must never be shown: by its spec's ``no_log``, or by its name."""
    if spec and spec.get("no_log") is not None:
        return bool(spec["no_log"])
    return bool(_SECRET.search(name)) and not _PUBLIC.search(name)


def shown(value: object) -> str:
    """``value`` as a sentence shows it: short, on one line, without the password of a URL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "null"
    text = _CREDENTIALS.sub(r"\1***@", str(value))
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False)


def is_empty(value: object) -> bool:
    """Whether ``value`` counts as not given: null, blank text, an empty list or mapping."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, (list, tuple, Mapping)) and not value)
    )


def faults(name: str, spec: Mapping[str, object], value: object, secret: bool = False) -> Iterator[str]:
    """One sentence for each fault of ``value``, the worked-out value of option ``name``.

    ``name`` may be a path such as ``base_admin_users[0].name``. ``spec`` is one option of an argument spec. With
    ``secret``, or where the name or the spec says so, no sentence shows a value.
    """
    key = re.sub(r"\[\d+\]", "", name).rsplit(".", 1)[-1]
    secret = secret or is_secret(key, spec)
    if is_empty(value) and spec.get("required"):
        yield f"{name} is not set: {remedy_for(key, spec)}."
        return
    if value is None:
        if spec.get("default") is not None:
            yield f"{name} is null: give it a value, or remove the line to get its default."
        return
    type_name = str(spec.get("type") or "str")
    if not _is_of(type_name, value):
        what, remedy = _TYPES[type_name]
        if type_name == "bool" and str(value).lower() in ("true", "false"):
            remedy += f", and after -e as JSON, '{{\"{name}\": {str(value).lower()}}}'"
        yield _wrong(name, value, secret, what, remedy)
        return
    if type_name == "list":
        yield from _list_faults(name, spec, value, secret)
        return
    choices = spec.get("choices")
    if choices and value not in choices and str(value) not in map(str, choices):
        listed = ", ".join(str(choice) or '""' for choice in choices)
        yield _wrong(name, value, secret, "one of its choices", f"write one of {listed}")
        return
    if type_name == "dict" and spec.get("options"):
        yield from _option_faults(name, spec["options"], value, secret)
        return
    if value == "" or not (check := kind_of(key, type_name)):
        return
    if fault := check(value):
        yield _wrong(name, value, secret, fault.what, fault.remedy)


def remedy_for(name: str, spec: Mapping[str, object]) -> str:
    """What to do about a value that is missing: the remedy part of a sentence."""
    if is_secret(name, spec):
        return "put it into the vault.yml of the environment, in group_vars"
    description = spec.get("description") or ""
    if isinstance(description, (list, tuple)):
        description = description[0] if description else ""
    first = re.split(r"(?<=[.;:])\s", " ".join(str(description).split()), maxsplit=1)[0].rstrip(".;:")
    if first[:2].istitle():
        first = first[0].lower() + first[1:]
    return f"set it in group_vars ({first})" if first else "set it in group_vars"


def _wrong(name: str, value: object, secret: bool, what: str, remedy: str) -> str:
    """The sentence about a value that is not ``what`` it should be."""
    if secret:
        return f"{name} is not {what} (its value is not shown): {remedy}."
    return f"{name} is {shown(value)}, which is not {what}: {remedy}."


def _list_faults(name: str, spec: Mapping[str, object], value: list, secret: bool) -> Iterator[str]:
    """The faults of each element of a list; choices and kinds speak about the elements."""
    element = {"type": spec.get("elements") or "raw"}
    for inherited in ("choices", "options"):
        if spec.get(inherited):
            element[inherited] = spec[inherited]
    for index, item in enumerate(value):
        path = f"{name}[{index}]"
        if item is None or item == "":
            yield f"{path} is empty: write a value or remove the item."
        elif element["type"] != "raw":
            yield from faults(path, element, item, secret)


def _option_faults(name: str, options: Options, value: Mapping, secret: bool) -> Iterator[str]:
    """The faults of the keys of a mapping, and the keys that its spec does not know."""
    for unknown in [key for key in value if key not in options]:
        listed = ", ".join(options)
        yield f"{name}.{unknown} is not known: its keys are {listed}."
    for key, spec in options.items():
        if key in value or spec.get("required"):
            yield from faults(f"{name}.{key}", spec, value.get(key), secret)


def _is_of(type_name: str, value: object) -> bool:
    """Whether ``value`` can be used as ``type_name`` without a conversion that roles do not make.

    Digits in quotes count as numbers, as Ansible's own check has it and ``-e name=1`` needs. Text in place of a list, a
    mapping or a boolean does not: the role would loop over letters or take "false" for true.
    """
    if type_name in ("str", "path"):
        return isinstance(value, (str, int, float)) and not isinstance(value, bool)
    if type_name == "bool":
        return isinstance(value, bool)
    if type_name == "int":
        return _converts(int, value) and not (isinstance(value, float) and not value.is_integer())
    if type_name == "float":
        return _converts(float, value)
    if type_name == "list":
        return isinstance(value, (list, tuple))
    if type_name == "dict":
        return isinstance(value, Mapping)
    return True


def _converts(number: type, value: object) -> bool:
    """Whether ``value`` is a number of that type, or text that is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        number(value)
    except ValueError:
        return False
    return True
