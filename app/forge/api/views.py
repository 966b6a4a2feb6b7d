from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import UserPassesTestMixin
from django.db.models import Max
from django.http import HttpRequest
from django.views.generic import TemplateView
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.viewsets import ReadOnlyModelViewSet

from ..forms import WORDS_MAX_CHARACTERS, FindForm
from ..models import ROLE_MAX_CHARACTERS, Phase, Template, TemplateQuerySet
from .serializers import MistakesSerializer, RefusalSerializer, TemplateSerializer, TemplateSummarySerializer

INVALID_CURSOR = {"cursor": ["Take the cursor from the addresses in next and previous."]}


class Pages(CursorPagination):
    """Pages that stay right while templates come and go, and that cost the same however far they lie."""

    ordering = ("title", "pk")
    page_size = 24
    page_size_query_param = "limit"
    max_page_size = 100

    def decode_cursor(self, request: Request) -> Any:
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise ValidationError(INVALID_CURSOR) from None
        # PostgreSQL takes no NUL in a text, and would fail over it.
        if cursor and "\x00" in (cursor.position or ""):
            raise ValidationError(INVALID_CURSOR)
        return cursor


FIND_PARAMETERS = [
    OpenApiParameter("q", {"type": "string", "maxLength": WORDS_MAX_CHARACTERS}, description="Words to search for."),
    OpenApiParameter("phase", str, enum=Phase.values, description="Only the templates of this phase."),
    OpenApiParameter(
        "role", {"type": "string", "maxLength": ROLE_MAX_CHARACTERS}, description="Only the templates of this role."
    ),
]

TOO_MANY = OpenApiResponse(RefusalSerializer, "Too many requests: Retry-After says when to come back.")


class TemplateViewSet(ReadOnlyModelViewSet):
    """The active templates. Lists are in the order of the titles, also when words are searched for."""

    queryset = Template.objects.filter(active=True)
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"
    pagination_class = Pages

    def get_serializer_class(self) -> type[TemplateSummarySerializer]:
        return TemplateSummarySerializer if self.action == "list" else TemplateSerializer

    def filter_queryset(self, queryset: TemplateQuerySet) -> TemplateQuerySet:
        if self.action != "list":
            return queryset.annotate(version=Max("versions__number"))
        form = FindForm(self.request.query_params)
        if not form.is_valid():
            raise ValidationError(form.errors)
        find = form.cleaned_data
        return queryset.narrowed(find["phase"], find["role"]).search(find["q"])

    @extend_schema(
        summary="List templates",
        parameters=FIND_PARAMETERS,
        responses={
            200: TemplateSummarySerializer(many=True),
            400: OpenApiResponse(MistakesSerializer, "A parameter is wrong."),
            429: TOO_MANY,
        },
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().list(request, *args, **kwargs)

    @extend_schema(
        summary="Read a template",
        responses={
            200: TemplateSerializer,
            404: OpenApiResponse(RefusalSerializer, "There is no such template, or it is not active."),
            429: TOO_MANY,
        },
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(request, *args, **kwargs)


def may_read_schema(request: HttpRequest | Request) -> bool:
    """Let in who works on Forge and who is signed in: the schema tells a stranger what there is to try."""
    return settings.DEBUG or request.user.is_authenticated


class ReadsTheSchema(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return may_read_schema(request)


class SchemaView(SpectacularJSONAPIView):
    permission_classes = [ReadsTheSchema]


class DocsView(UserPassesTestMixin, TemplateView):
    """The schema as a page. The usual viewers need inline scripts and styles, which the site's policy forbids."""

    template_name = "forge/api_docs.html"

    def test_func(self) -> bool:
        return may_read_schema(self.request)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
        operations = [
            {"path": path, "method": method.upper(), **operation}
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]
        return super().get_context_data(operations=operations, **kwargs)
