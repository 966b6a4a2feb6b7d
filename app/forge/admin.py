from django.contrib import admin

from .models import Template

admin.site.site_header = "Forge"
admin.site.site_title = "Forge"
admin.site.index_title = "Administration"


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    list_display = ["title", "agent_role", "workflow_phase", "active", "updated"]
    list_filter = ["workflow_phase", "active"]
    search_fields = ["title", "agent_role", "body"]
    prepopulated_fields = {"slug": ["title"]}
    readonly_fields = ["created", "updated"]
