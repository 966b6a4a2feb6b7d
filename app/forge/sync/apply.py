"""Bring the database to what the documents say: all of it, or nothing."""

from collections import Counter
from collections.abc import Iterator

from django.db import DatabaseError, transaction

from ..models import RemoteFile, Source, Template
from . import SyncError
from .documents import Document

Change = tuple[str, str]


def apply(documents: list[Document], source: Source, files: list[RemoteFile], dry_run: bool) -> list[Change]:
    """Create, update and deactivate the templates of one source; return what was done to which slug.

    A template of another source, or made by hand, is kept as it is. With dry_run everything is tried and taken
    back. Raises SyncError if the database refuses.
    """
    try:
        with transaction.atomic():
            changes = list(_changes(documents, source))
            if source == Source.GIT:
                RemoteFile.objects.all().delete()
                RemoteFile.objects.bulk_create(RemoteFile(url=f.url, etag=f.etag, text=f.text) for f in files)
            transaction.set_rollback(dry_run)
    except DatabaseError as error:
        reason = str(error).partition("\n")[0]
        raise SyncError(f"The database refused the change, and nothing was changed: {reason}.") from None
    return changes


def summary(changes: list[Change]) -> str:
    """Return the numbers in one line."""
    numbers = Counter(verb for verb, _ in changes)
    return ", ".join(f"{numbers[verb]} {verb}" for verb in ("created", "updated", "unchanged", "deactivated", "kept"))


def _changes(documents: list[Document], source: Source) -> Iterator[Change]:
    slugs = [document.slug for document in documents]
    present = {template.slug: template for template in Template.objects.select_for_update().filter(slug__in=slugs)}
    for document in documents:
        template = present.get(document.slug)
        if template is None:
            Template.objects.create(slug=document.slug, source=source, **document.fields)
            yield "created", document.slug
        elif template.source != source:
            yield "kept", document.slug
        elif all(getattr(template, name) == value for name, value in document.fields.items()):
            yield "unchanged", document.slug
        else:
            for name, value in document.fields.items():
                setattr(template, name, value)
            template.save()
            yield "updated", document.slug
    for template in Template.objects.select_for_update().filter(source=source, active=True).exclude(slug__in=slugs):
        template.active = False
        template.save()
        yield "deactivated", template.slug
