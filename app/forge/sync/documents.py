"""A template as a Markdown file with front matter.

    ---
    title: Plan a change in small steps
    agent_role: Architect
    workflow_phase: plan
    ---
    Plan this change to {{ repository }}: …

`slug` may be left out: the name of the file serves. `active: false` hides a template.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import frontmatter
import yaml
from django.core.exceptions import ValidationError

from ..models import Template
from . import SyncError

FILE_MAX_BYTES = 500_000
FILES_MAX = 1000

REQUIRED = {"title": str, "agent_role": str, "workflow_phase": str}
OPTIONAL = {"slug": str, "active": bool}
WORDS = {str: "text", bool: "true or false"}


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
        head, body = frontmatter.parse(text, handler=frontmatter.YAMLHandler())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise SyncError(f"{path}: the front matter is not YAML{where}: {reason}.") from None
    if not isinstance(head, dict) or not head:
        raise SyncError(f"{path} has no front matter: begin it with ---, title, agent_role, workflow_phase, ---.")
    if not body:
        raise SyncError(f"{path} has no text after the front matter: write the prompt there.")
    kinds = REQUIRED | OPTIONAL
    for name, value in head.items():
        if name not in kinds:
            raise SyncError(f"{path}: {name!r} is unknown: the front matter knows {', '.join(kinds)}.")
        if not isinstance(value, kinds[name]):
            raise SyncError(f"{path}: {name} is {value!r}, which is not {WORDS[kinds[name]]}: write it as such.")
    for name in REQUIRED:
        if name not in head:
            raise SyncError(f"{path}: {name} is missing: add it to the front matter.")
    document = Document(path, **{"slug": PurePosixPath(path).stem, "active": True, **head}, body=f"{body}\n")
    try:
        Template(slug=document.slug, **document.fields).clean_fields()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise SyncError(f"{path}: {field}: {messages[0]}") from None
    return document


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
    if not directory.is_dir():
        raise SyncError(f"{directory} is not a directory: name one that holds the templates.")
    documents = []
    for file in sorted(directory.glob("**/*.md")):
        relative = file.relative_to(directory)
        if file.name == "README.md" or any(part.startswith(".") for part in relative.parts):
            continue
        try:
            if file.stat().st_size > FILE_MAX_BYTES:
                raise SyncError(f"{relative} has more than {FILE_MAX_BYTES} bytes: make it smaller.")
            data = file.read_bytes()
        except OSError as error:
            raise SyncError(f"{relative} cannot be read: {error.strerror}.") from None
        documents.append(parse(str(relative), decode(str(relative), data)))
    check_together(documents, str(directory))
    return documents
