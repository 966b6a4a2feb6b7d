import re
from typing import NamedTuple

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.core.files import File
from django.core.validators import FileExtensionValidator
from django.db import models
from django.urls import reverse

# No HTML and no SVG: a browser would run what they hold under the site's own name.
ATTACHMENT_EXTENSIONS = ["csv", "json", "md", "pdf", "png", "txt", "yaml", "yml"]
ATTACHMENT_MAX_MEGABYTES = 5

PREVIEW_CHARACTERS = 240

VARIABLE = re.compile(r"(\{\{\s*[A-Za-z_]\w*\s*\}\})")


def check_attachment_size(file: File) -> None:
    if file.size > ATTACHMENT_MAX_MEGABYTES * 1024 * 1024:
        raise ValidationError(f"The file is larger than {ATTACHMENT_MAX_MEGABYTES} MB.")


class Phase(models.TextChoices):
    """The step of a piece of work that a template serves, in the order of the work."""

    DISCOVER = "discover", "Discover"
    PLAN = "plan", "Plan"
    BUILD = "build", "Build"
    REVIEW = "review", "Review"
    RELEASE = "release", "Release"
    OPERATE = "operate", "Operate"


class Segment(NamedTuple):
    """A piece of a body: either text, or the name of a variable."""

    text: str
    is_variable: bool


def split(body: str) -> list[Segment]:
    """Cut a body at its variables, so that a page can mark them without writing HTML by hand."""
    # A split by one group alternates: text, variable, text.
    return [
        Segment(piece.strip("{} \t\r\n") if index % 2 else piece, bool(index % 2))
        for index, piece in enumerate(VARIABLE.split(body))
        if piece
    ]


class TemplateQuerySet(models.QuerySet):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "TemplateQuerySet":
        """Staff see the inactive ones too."""
        return self.all() if user.is_staff else self.filter(active=True)


class Template(models.Model):
    """A prompt with variables in it, written for one kind of agent and one step of the work."""

    title = models.CharField(max_length=120)
    slug = models.SlugField(max_length=120, unique=True)
    agent_role = models.CharField(max_length=60, help_text="Who the agent is to be, such as “Release manager”.")
    workflow_phase = models.CharField(max_length=20, choices=Phase)
    body = models.TextField(help_text="Write {{ name }} where a value goes.")
    active = models.BooleanField(default=True, help_text="Only staff see a template that is not active.")
    attachment = models.FileField(
        upload_to="attachments/%Y/%m",
        blank=True,
        validators=[FileExtensionValidator(ATTACHMENT_EXTENSIONS), check_attachment_size],
    )
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        ordering = ["title", "pk"]
        indexes = [
            models.Index(fields=["active", "title", "id"], name="template_active_title"),
            models.Index(fields=["workflow_phase", "title", "id"], name="template_phase_title"),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("forge:detail", args=[self.slug])

    @property
    def segments(self) -> list[Segment]:
        """The whole body in pieces."""
        return split(self.body)

    @property
    def preview(self) -> list[Segment]:
        """The beginning of the body in pieces."""
        return split(self.body[:PREVIEW_CHARACTERS])

    @property
    def variables(self) -> list[str]:
        """The names of the variables, each once, in the order of the body."""
        return list(dict.fromkeys(segment.text for segment in self.segments if segment.is_variable))
