from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from .models import Template

admin.site.site_header = "Forge"
admin.site.site_title = "Forge"
admin.site.index_title = "Administration"


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    list_display = ["title", "agent_role", "workflow_phase", "active", "source", "updated"]
    list_filter = ["workflow_phase", "active", "source"]
    list_per_page = 25
    show_full_result_count = False
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

    def save_model(self, request: HttpRequest, obj: Template, form: Any, change: bool) -> None:
        obj.save(editor=request.user)
