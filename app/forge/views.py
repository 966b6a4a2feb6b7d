from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Page, Paginator
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from django.views.decorators.cache import cache_control
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import DetailView, ListView, View

from config.read_only import changes_nothing

from . import library, prompts
from .forms import FindForm, PromptForm
from .models import Favourite, Template, TemplateQuerySet, TemplateVersion

VERSIONS_SHOWN = 10
CONTENT_TYPES = {"md": "text/markdown; charset=utf-8", "txt": "text/plain; charset=utf-8"}


class Pages(Paginator):
    """Finds the ids of a page first, so that the database sorts ids and not whole templates."""

    def _get_page(self, rows: TemplateQuerySet, *args: Any, **kwargs: Any) -> Page:
        ids = list(rows.values_list("pk", flat=True))
        templates = Template.objects.in_bulk(ids)
        return super()._get_page([templates[pk] for pk in ids if pk in templates], *args, **kwargs)


class TemplateListView(ListView):
    paginate_by = 24
    paginator_class = Pages

    def get_queryset(self) -> TemplateQuerySet:
        self.form = FindForm(self.request.GET)
        valid = self.form.is_valid()
        if "phase" in self.form.errors:
            raise Http404("There is no such phase.")
        self.counts = library.counts(for_staff=self.request.user.is_staff)
        templates = Template.objects.visible_to(self.request.user)
        if not valid:
            return templates.none()
        self.filters = {name: self.form.cleaned_data[name] for name in ("phase", "role")}
        return templates.narrowed(**self.filters).search(self.form.cleaned_data["q"])

    def get_paginator(self, queryset: TemplateQuerySet, *args: Any, **kwargs: Any) -> Paginator:
        paginator = super().get_paginator(queryset, *args, **kwargs)
        if self.form.is_valid() and not self.form.cleaned_data["q"]:
            # Known already: counting 10,000 rows again would be the page's dearest query.
            paginator.count = self.counts.total(**self.filters)
        return paginator

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        find = self.form.cleaned_data
        role = find.get("role", "")
        return super().get_context_data(
            form=self.form,
            words=find.get("q", ""),
            role=role,
            phase=find.get("phase", ""),
            roles=sorted({*self.counts.roles, role} - {""}),
            phases=self.counts.phases(role),
            total=self.counts.total(role=role),
            **kwargs,
        )


class FavouriteListView(LoginRequiredMixin, ListView):
    paginate_by = 24
    paginator_class = Pages
    template_name = "forge/favourite_list.html"

    def get_queryset(self) -> TemplateQuerySet:
        return Template.objects.visible_to(self.request.user).filter(favourites__user=self.request.user)


# The values of a prompt are nobody's but the visitor's: no error report, no cache and no address holds them.
@method_decorator([changes_nothing, sensitive_post_parameters()], name="dispatch")
class TemplateDetailView(DetailView):
    def get_queryset(self) -> TemplateQuerySet:
        return Template.objects.visible_to(self.request.user).with_favourite(self.request.user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        form = kwargs.setdefault("form", PromptForm(self.object.variables))
        return super().get_context_data(
            pieces=prompts.fill(self.object.body, form.values),
            versions=self.object.versions.select_related("editor").defer("body")[:VERSIONS_SHOWN],
            **kwargs,
        )

    @method_decorator(cache_control(no_store=True))
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.object = self.get_object()
        form = PromptForm(self.object.variables, request.POST)
        return self.filled(form) if form.is_valid() else self.page(form)

    def page(self, form: PromptForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form))

    def filled(self, form: PromptForm) -> HttpResponse:
        """Answer a form without a mistake in it."""
        return self.page(form)


class DownloadView(TemplateDetailView):
    http_method_names = ["post", "options"]
    extension = "md"

    def filled(self, form: PromptForm) -> HttpResponse:
        text = "".join(piece.text for piece in prompts.fill(self.object.body, form.values))
        name = f"{self.object.slug}.{self.extension}"
        headers = {"Content-Disposition": content_disposition_header(True, name)}
        return HttpResponse(text, content_type=CONTENT_TYPES[self.extension], headers=headers)


class FavouriteView(View):
    """Keep a template, or let it go. The form says which, so that sending it twice does no harm."""

    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        template = get_object_or_404(Template.objects.visible_to(request.user), slug=slug)
        if not request.user.is_authenticated:
            return redirect_to_login(template.get_absolute_url())
        if request.POST.get("keep") == "true":
            Favourite.objects.get_or_create(user=request.user, template=template)
        else:
            Favourite.objects.filter(user=request.user, template=template).delete()
        return redirect(template)


class VersionView(DetailView):
    context_object_name = "version"
    template_name = "forge/version_detail.html"

    def get_object(self) -> TemplateVersion:
        self.template = get_object_or_404(
            Template.objects.visible_to(self.request.user).annotate(latest=Max("versions__number")),
            slug=self.kwargs["slug"],
        )
        versions = self.template.versions.select_related("editor")
        return get_object_or_404(versions, number=self.kwargs["number"])

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        number = self.object.number
        return super().get_context_data(
            template=self.template,
            older=number - 1,
            newer=number + 1 if number < self.template.latest else None,
            **kwargs,
        )
