# SPDX-License-Identifier: GPL-3.0-or-later
"""What settings read from the environment: by os.environ, django-environ, decouple or a project's own readers."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace

from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import (
    Checkout,
    dotted,
    first_text,
    text_of,
)

NAME = re.compile(r"[A-Z][A-Z0-9_]+\Z")
SECRET = re.compile(r"(?:^|_)(?:\w*KEY|SECRETS?|PASSWORD|PASSWD|PASS|TOKEN|DSN|CREDENTIALS|SALT)(?:_ID)?\Z|SECRET")
NO_SECRET = re.compile(r"PUBLIC|PUBLISHABLE|SITE_KEY\Z|_(?:FILE|PATH|SECONDS|NAME|ENABLED|TIMEOUT|LIFETIME|URL)\Z")
WITH_PASSWORD = re.compile(r"://[^/\s]*:[^/\s]*@")
#: methods of django-environ that have a name of their own
NAMES_OF_METHODS = {
    **dict.fromkeys(("db", "db_url"), "DATABASE_URL"),
    **dict.fromkeys(("cache", "cache_url"), "CACHE_URL"),
    **dict.fromkeys(("email", "email_url"), "EMAIL_URL"),
}
NO_READERS = frozenset({"setdefault", "pop", "update", "putenv", "unsetenv", "read_env", "Env", "find_dotenv"})
TYPES = frozenset({"str", "int", "bool", "float", "list", "tuple", "dict", "json", "bytes"})


@dataclass(frozen=True)
class Variable:
    """A name that is read. ``default`` is None where there is none, or none that is a constant.

    ``code`` is a default that is worked out. ``is_certain`` is false where it is read only under a condition.
    ``setting`` is what it becomes: ``DEBUG``, ``DATABASES.HOST``. ``separator``, ``in_list`` and ``cast`` say how; a
    cast is ``int`` for the reader's own, ``int()`` for a call around it.
    """

    name: str
    place: str
    required: bool
    default: str | None = None
    code: str = ""
    is_certain: bool = True
    setting: str = ""
    separator: str = ","
    cast: str = ""
    in_list: bool = False

    @property
    def is_secret(self) -> bool:
        """Whether the name says that the value is one."""
        return self.setting == "SECRET_KEY" or bool(SECRET.search(self.name) and not NO_SECRET.search(self.name))

    def hides_default(self) -> bool:
        """Whether the default must not be shown: that of a secret, or a URL with a password."""
        return self.is_secret or bool(WITH_PASSWORD.search(f"{self.default}{self.code}"))


def variables(checkout: Checkout, files: list[str]) -> list[Variable]:
    """What the files read, each name once, in the order in which it is read first."""
    helpers = _helpers(checkout, files)
    found: dict[str, Variable] = {}
    schemes: dict[str, ast.expr] = {}
    for path in files:
        tree = checkout.tree(path)
        if tree is None:
            continue
        reader = _Reader(path, helpers)
        reader.visit(tree)
        schemes.update(reader.schemes)
        for variable in reader.found:
            before = found.get(variable.name)
            if before is None:
                found[variable.name] = variable
            elif variable.required and variable.is_certain and not (before.required and before.is_certain):
                found[variable.name] = replace(variable, setting=variable.setting or before.setting)
    for name, node in schemes.items():
        if name in found and found[name].required:
            found[name] = replace(found[name], required=False, **_default(node))
    return list(found.values())


def _default(node: ast.expr | None) -> dict[str, str | None]:
    """The fields of a Variable that a default makes: a constant's text, else its code."""
    if isinstance(node, ast.Constant):
        return {"default": None if node.value is None else str(node.value)}
    if isinstance(node, (ast.List, ast.Tuple)) and all(isinstance(part, ast.Constant) for part in node.elts):
        return {"default": ",".join(str(part.value) for part in node.elts)}
    return {"code": ast.unparse(node)} if node is not None else {}


def _helpers(checkout: Checkout, files: list[str]) -> dict[str, ast.expr | None]:
    """The project's own readers that do without a second argument, by name, with the default that they then have."""
    found: dict[str, ast.expr | None] = {}
    for _path, node in checkout.nodes(*files):
        if not isinstance(node, ast.FunctionDef) or not node.args.defaults:
            continue
        default = node.args.defaults[0]
        refuses = any(isinstance(part, ast.Raise) for part in ast.walk(node))
        if not (refuses and isinstance(default, ast.Constant) and default.value is None):
            found[node.name] = default
    return found


class _Reader(ast.NodeVisitor):
    """Walks one file and collects ``found``; ``schemes`` are the defaults that environ.Env() is given."""

    def __init__(self, path: str, helpers: dict[str, ast.expr | None]):
        self.found: list[Variable] = []
        self.schemes: dict[str, ast.expr] = {}
        self._path = path
        self._helpers = helpers
        self._above: list[ast.AST] = []
        self._decouple: set[str] = set()

    def generic_visit(self, node: ast.AST) -> None:
        self._above.append(node)
        super().generic_visit(node)
        self._above.pop()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] == "decouple":
            self._decouple |= {alias.asname or alias.name for alias in node.names}

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Load) and dotted(node.value).rpartition(".")[2] in ("environ", "env"):
            self._add(node, text_of(node.slice), required=True)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if isinstance(node.ops[0], (ast.In, ast.NotIn)) and dotted(node.comparators[0]).endswith("environ"):
            self._add(node, text_of(node.left), required=False)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        if last == "Env":
            for key, value in keywords.items():
                if isinstance(value, ast.Tuple) and len(value.elts) == 2:
                    self.schemes[key] = value.elts[1]
        elif name == "dj_database_url.config":
            default = keywords.get("default") or (node.args[1] if len(node.args) > 1 else None)
            key = text_of(keywords.get("env")) or first_text(node) or "DATABASE_URL"
            self._add(node, key, required=False, node_default=default)
        elif last not in NO_READERS and ("env" in name.lower() or name in self._decouple):
            key = first_text(node) if node.args else text_of(keywords.get("var")) or NAMES_OF_METHODS.get(last)
            self._read(node, key, last, keywords)
        self.generic_visit(node)

    def _read(self, node: ast.Call, key: str | None, last: str, keywords: dict[str, ast.expr]) -> None:
        """A call that reads: with a default as a keyword, behind the name, or behind a type, or of its helper."""
        behind = list(node.args[1:])
        cast = dotted(keywords["cast"]) if "cast" in keywords else last if last in TYPES else ""
        if behind and isinstance(behind[0], ast.Name) and behind[0].id in TYPES:
            cast = dotted(behind.pop(0))
        default = keywords.get("default") or (behind[0] if behind else self._helpers.get(last))
        self._add(node, key, default is None and last not in ("get", "getenv"), default, cast)

    def _add(self, node: ast.AST, key: str | None, required: bool, node_default=None, cast: str = "") -> None:
        if not key or not NAME.match(key):
            return
        fields = {"cast": cast, **_default(node_default)}
        inside: ast.AST = node
        names: list[str] = []
        for above in reversed(self._above):
            if isinstance(above, (ast.If, ast.IfExp, ast.Try, ast.FunctionDef, ast.Lambda)):
                # What a condition itself reads is read always.
                fields["is_certain"] = fields.get("is_certain", True) and inside is getattr(above, "test", None)
            elif isinstance(above, (ast.List, ast.Tuple, ast.Set)):
                fields["in_list"] = True
            elif isinstance(above, ast.Attribute) and above.attr == "split":
                fields["separator"] = " "
            elif isinstance(above, ast.Call) and inside is not above.func:
                fields["cast"] = fields["cast"] or f"{dotted(above)}()"
            elif isinstance(above, ast.Call) and fields.get("separator") == " " and not names:
                fields["separator"] = first_text(above) or " "
            elif isinstance(above, ast.Dict) and inside in above.values:
                names.append(text_of(above.keys[above.values.index(inside)]) or "")
            elif isinstance(above, (ast.Assign, ast.AnnAssign)):
                target = above.targets[0] if isinstance(above, ast.Assign) else above.target
                names += [text_of(target.slice) or ""] if isinstance(target, ast.Subscript) else []
                root = re.match(r"\w*", ast.unparse(target))
                fields["setting"] = ".".join([root[0] if root else "", *names[:1]])
            inside = above
        place = f"{self._path}:{node.lineno}"
        self.found.append(Variable(key, place, required, **fields))
