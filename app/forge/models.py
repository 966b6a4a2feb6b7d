from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVectorField
from django.core.exceptions import ValidationError
from django.core.files import File
from django.core.validators import FileExtensionValidator, MaxLengthValidator
from django.db import connections, models, transaction
from django.db.models.expressions import RawSQL
from django.urls import reverse
from django.utils import timezone

from . import prompts

# No HTML and no SVG: a browser would run what they hold under the site's own name.
ATTACHMENT_EXTENSIONS = ["csv", "json", "md", "pdf", "png", "txt", "yaml", "yml"]
ATTACHMENT_MAX_MEGABYTES = 5

BODY_MAX_CHARACTERS = 100_000
VARIABLES_MAX = 50
ROLE_MAX_CHARACTERS = 60
PREVIEW_CHARACTERS = 240

# The language of the search: stems and stop words. Migration 0005 has the same word.
SEARCH_CONFIG = "english"


def check_attachment_size(file: File) -> None:
    if file.size > ATTACHMENT_MAX_MEGABYTES * 1024 * 1024:
        raise ValidationError(f"The file is larger than {ATTACHMENT_MAX_MEGABYTES} MB.")


def check_variables(body: str) -> None:
    count = len(prompts.variables(body))
    if count > VARIABLES_MAX:
        raise ValidationError(f"The body has {count} variables; a form has room for {VARIABLES_MAX}.")


class Phase(models.TextChoices):
    """The step of a piece of work that a template serves, in the order of the work."""

    DISCOVER = "discover", "Discover"
    PLAN = "plan", "Plan"
    BUILD = "build", "Build"
    REVIEW = "review", "Review"
    RELEASE = "release", "Release"
    OPERATE = "operate", "Operate"


class Source(models.TextChoices):
    """Where a template comes from. A sync owns the templates of its own source and touches no other."""

    HAND = "", "Made by hand"
    LIBRARY = "library", "Forge's own library"
    DIRECTORY = "directory", "A directory"
    GIT = "git", "A git forge"


class TemplateQuerySet(models.QuerySet):
    def visible_to(self, user: AbstractUser | AnonymousUser) -> "TemplateQuerySet":
        """Staff see the inactive ones too."""
        return self.all() if user.is_staff else self.filter(active=True)

    def narrowed(self, phase: str = "", role: str = "") -> "TemplateQuerySet":
        """Keep the templates of a phase and of a role; an empty one keeps all."""
        wanted = {"workflow_phase": phase, "agent_role": role}
        return self.filter(**{field: value for field, value in wanted.items() if value})

    def search(self, words: str) -> "TemplateQuerySet":
        """Keep what matches, the best first: title before role before body. No words keep all.

        PostgreSQL reads the words as a search engine would ("quoted phrase", or, -without) and knows their
        stems. Elsewhere every word must occur as written, and the order stays.
        """
        if not words.strip():
            return self
        if connections[self.db].vendor == "postgresql":
            query = SearchQuery(words, config=SEARCH_CONFIG, search_type="websearch")
            # The column is PostgreSQL's own: the model cannot have it and still work on SQLite.
            vector = RawSQL('"forge_template"."search_vector"', [], output_field=SearchVectorField())
            return (
                self.alias(search_vector=vector)
                .filter(search_vector=query)
                .order_by(SearchRank(vector, query).desc(), "title", "pk")
            )
        found = self
        for word in words.split():
            found = found.filter(
                models.Q(title__icontains=word) | models.Q(agent_role__icontains=word) | models.Q(body__icontains=word)
            )
        return found

    def with_favourite(self, user: AbstractUser | AnonymousUser) -> "TemplateQuerySet":
        """Add is_favourite: whether the user keeps the template."""
        return self.annotate(
            is_favourite=models.Exists(Favourite.objects.filter(template=models.OuterRef("pk"), user=user.pk))
        )


class Wording(models.Model):
    """What a template says. A change of it makes a version."""

    title = models.CharField(max_length=120)
    agent_role = models.CharField(
        max_length=ROLE_MAX_CHARACTERS, help_text="Who the agent is to be, such as “Release manager”."
    )
    workflow_phase = models.CharField(max_length=20, choices=Phase)
    body = models.TextField(
        help_text="Write {{ name }} where a value goes.",
        validators=[MaxLengthValidator(BODY_MAX_CHARACTERS), check_variables],
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title

    @property
    def wording(self) -> dict[str, str]:
        return {field.name: getattr(self, field.name) for field in Wording._meta.fields}

    @property
    def segments(self) -> list[prompts.Segment]:
        """The whole body in pieces."""
        return prompts.split(self.body)


class Template(Wording):
    """A prompt with variables in it, written for one kind of agent and one step of the work."""

    slug = models.SlugField(max_length=120, unique=True)
    active = models.BooleanField(default=True, help_text="Only staff see a template that is not active.")
    attachment = models.FileField(
        upload_to="attachments/%Y/%m",
        blank=True,
        validators=[FileExtensionValidator(ATTACHMENT_EXTENSIONS), check_attachment_size],
    )
    source = models.CharField(
        max_length=20,
        choices=Source,
        default=Source.HAND,
        # The release before runs on this schema during a switch, and says nothing of a source.
        db_default=Source.HAND,
        blank=True,
        help_text="The next sync puts back what its source says, unless the template was made by hand.",
    )
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        ordering = ["title", "pk"]
        indexes = [
            models.Index(fields=["active", "title", "id"], name="template_active_title"),
            models.Index(fields=["workflow_phase", "title", "id"], name="template_phase_title"),
            models.Index(fields=["title", "id"], name="template_title"),
            models.Index(fields=["agent_role", "title", "id"], name="template_role_title"),
        ]

    def save(self, *args, editor: AbstractUser | None = None, **kwargs) -> None:
        """Save, and keep a version if the wording is new. Everything that edits a template comes by here.

        The update locks the row, so that of two editors the second numbers its version after the first.
        """
        # A browser sends CR LF, a file has LF: without this, saving a form unchanged would be a change.
        self.body = self.body.replace("\r\n", "\n")
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            last = self.versions.first()
            if last is None or last.wording != self.wording:
                self.versions.create(number=last.number + 1 if last else 1, editor=editor, **self.wording)

    def get_absolute_url(self) -> str:
        return reverse("forge:detail", args=[self.slug])

    @property
    def preview(self) -> list[prompts.Segment]:
        """The beginning of the body in pieces."""
        return prompts.split(self.body[:PREVIEW_CHARACTERS])

    @property
    def variables(self) -> list[str]:
        """The names of the variables, each once, in the order of the body."""
        return prompts.variables(self.body)


class TemplateVersion(Wording):
    """What a template said at a time. Numbers count from 1 without a gap."""

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    # Nobody where a command made it, or where the account is gone.
    editor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["template", "number"], name="version_number_once")]

    def __str__(self) -> str:
        return f"{self.title}, version {self.number}"

    def get_absolute_url(self) -> str:
        return reverse("forge:version", args=[self.template.slug, self.number])


class Favourite(models.Model):
    """A template that a user wants at hand."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="favourites")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "template"], name="favourite_once")]

    def __str__(self) -> str:
        return f"{self.user}: {self.template}"


class RemoteFile(models.Model):
    """A file as a git forge last sent it, so that the forge need not send it again while its ETag holds."""

    url = models.CharField(max_length=1000, unique=True)
    etag = models.CharField(max_length=200)
    text = models.TextField()

    def __str__(self) -> str:
        return self.url
