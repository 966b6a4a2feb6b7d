from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from .models import Template, TemplateQuerySet

admin.site.site_header = "Forge"
admin.site.site_title = "Forge"
admin.site.index_title = "Administration"


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    list_display = ["title", "agent_role", "workflow_phase", "active", "source", "updated"]
    list_filter = ["workflow_phase", "active", "source"]
    list_per_page = 25
    show_full_result_count = False
    # Only so that there is a field to search by; get_search_results knows where to look.
    search_fields = ["title", "agent_role", "body"]
    prepopulated_fields = {"slug": ["title"]}
    fields = [
        "title",
        "slug",
        "agent_role",
        "workflow_phase",
        "body",
        "active",
        "attachment",
        "source",
        "created",
        "updated",
    ]
    readonly_fields = ["source", "created", "updated"]

    def get_search_results(
        self, request: HttpRequest, queryset: TemplateQuerySet, search_term: str
    ) -> tuple[TemplateQuerySet, bool]:
        """Search as the site does, by its index, but in the order of the column that was chosen."""
        return queryset.search(search_term).order_by(*queryset.query.order_by), False

    def save_model(self, request: HttpRequest, obj: Template, form: Any, change: bool) -> None:
        obj.save(editor=request.user)
