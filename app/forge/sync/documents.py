"""A template as a Markdown file with front matter.

    ---
    title: Plan a change in small steps
    agent_role: Architect
    workflow_phase: plan
    ---
    Plan this change to {{ repository }}: …

`slug` may be left out: the name of the file serves. `active: false` hides a template.
"""

import os
import reprlib
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import frontmatter
import yaml
from django.core.exceptions import ValidationError

from ..models import Template
from . import SyncError

FILE_MAX_BYTES = 500_000
FILES_MAX = 1000

REQUIRED = ("title", "agent_role", "workflow_phase")
OPTIONAL = ("slug", "active")
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# Control characters, which a terminal obeys, and halves of a character, which no database takes.
UNFIT = ("Cc", "Cs")
REASON_MAX_CHARACTERS = 200


class _Loader(yaml.BaseLoader):
    """Reads every scalar as the text that it is: a title that looks like a date stays a title."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        # A few aliases of aliases stand for more than any memory holds.
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not read", self.peek_event().start_mark)
        return super().compose_node(parent, index)


class _Handler(frontmatter.YAMLHandler):
    def load(self, fm: str, **kwargs: object) -> object:
        return super().load(fm, Loader=_Loader, **kwargs)


@dataclass(frozen=True)
class Document:
    """A file that has been read and found right."""

    path: str
    slug: str
    title: str
    agent_role: str
    workflow_phase: str
    body: str
    active: bool

    @property
    def fields(self) -> dict[str, str | bool]:
        """What the template takes over."""
        names = ("title", "agent_role", "workflow_phase", "body", "active")
        return {name: getattr(self, name) for name in names}


def decode(path: str, data: bytes) -> str:
    """Return the text of a file; raise SyncError if it is none."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise SyncError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    if "\x00" in text:
        raise SyncError(f"{path} holds a NUL character: remove it.")
    return text


def parse(path: str, text: str) -> Document:
    """Read a template; raise SyncError with the first thing that is wrong with it."""
    try:
        head, body = frontmatter.parse(text, handler=_Handler())
    # The library itself stumbles over "\UFFFFFFFF", and over a thousand brackets.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise SyncError(f"{path}: the front matter is not YAML{where}: {_shorten(reason)}.") from None
    if not isinstance(head, dict) or not head:
        raise SyncError(f"{path} has no front matter: begin it with ---, title, agent_role, workflow_phase, ---.")
    if not body:
        raise SyncError(f"{path} has no text after the front matter: write the prompt there.")
    for name, value in head.items():
        if name not in REQUIRED + OPTIONAL:
            known = ", ".join(REQUIRED + OPTIONAL)
            raise SyncError(f"{path}: {reprlib.repr(name)} is unknown: the front matter knows {known}.")
        if not isinstance(value, str):
            raise SyncError(f"{path}: {name} is {reprlib.repr(value)}, which is not one value: write one.")
        if any(unicodedata.category(character) in UNFIT for character in value):
            raise SyncError(f"{path}: {name} is {reprlib.repr(value)}, with a control character: remove it.")
    active = head.pop("active", "true")
    if active.lower() not in BOOLEANS:
        raise SyncError(f"{path}: active is {reprlib.repr(active)}, which is not true or false: write it as such.")
    for name in REQUIRED:
        if name not in head:
            raise SyncError(f"{path}: {name} is missing: add it to the front matter.")
    document = Document(
        path, **{"slug": PurePosixPath(path).stem, **head}, active=BOOLEANS[active.lower()], body=f"{body}\n"
    )
    try:
        Template(slug=document.slug, **document.fields).clean_fields()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise SyncError(f"{path}: {field}: {_shorten(messages[0])}") from None
    return document


def _shorten(reason: str) -> str:
    """Keep a reason to one line, although it may repeat a whole value."""
    return textwrap.shorten(reason, REASON_MAX_CHARACTERS, placeholder=" …")


def check_number(paths: list[str], where: str) -> None:
    """Refuse more files than a sync takes."""
    if len(paths) > FILES_MAX:
        raise SyncError(f"{where} lists {len(paths)} templates: {FILES_MAX} are the most.")


def check_together(documents: list[Document], where: str) -> None:
    """Refuse what no single file shows: no file at all, or two of one slug."""
    if not documents:
        raise SyncError(f"{where} lists no template: nothing was changed, since all of them would be deactivated.")
    paths: dict[str, str] = {}
    for document in documents:
        other = paths.setdefault(document.slug, document.path)
        if other != document.path:
            raise SyncError(f"{other} and {document.path} both have the slug {document.slug!r}: give one another.")


def read_directory(directory: Path) -> list[Document]:
    """Read every Markdown file below a directory, but for README.md and what is hidden."""
    paths = _paths(directory)
    check_number(paths, str(directory))
    documents = [parse(path, decode(path, _read(directory, path))) for path in paths]
    check_together(documents, str(directory))
    return documents


def _paths(directory: Path) -> list[str]:
    """Return the files to read. A folder that may not be entered is an error: its templates would be deactivated."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    try:
        if not directory.is_dir():
            raise SyncError(f"{directory} is not a directory: name one that holds the templates.")
        for folder, folders, names in os.walk(directory, onerror=fail):
            folders[:] = [name for name in folders if not name.startswith(".")]
            wanted = (name for name in names if name.endswith(".md") and name != "README.md" and name[0] != ".")
            found.extend(Path(folder, name).relative_to(directory) for name in wanted)
    except OSError as error:
        raise SyncError(f"{error.filename} cannot be read: {error.strerror}.") from None
    return [str(path) for path in sorted(found)]


def _read(directory: Path, path: str) -> bytes:
    """Return what a file holds. Only a regular one has an end, and only what is below the directory is meant."""
    try:
        file = Path(os.path.realpath(directory / path, strict=True))
        if not file.is_relative_to(directory.resolve()):
            raise SyncError(f"{path} leads out of {directory}: put the file itself there.")
        if not file.is_file():
            raise SyncError(f"{path} is not a regular file: remove it.")
        with file.open("rb") as opened:
            data = opened.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise SyncError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > FILE_MAX_BYTES:
        raise SyncError(f"{path} has more than {FILE_MAX_BYTES} bytes: make it smaller.")
    return data
