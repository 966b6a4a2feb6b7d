from typing import Any

from django.http import Http404
from django.views.generic import DetailView, ListView

from .models import Phase, Template, TemplateQuerySet


class TemplateListView(ListView):
    paginate_by = 24

    def get_queryset(self) -> TemplateQuerySet:
        templates = Template.objects.visible_to(self.request.user)
        phase = self.request.GET.get("phase", "")
        if not phase:
            return templates
        if phase not in Phase.values:
            raise Http404("There is no such phase.")
        return templates.filter(workflow_phase=phase)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(phases=Phase.choices, phase=self.request.GET.get("phase", ""), **kwargs)


class TemplateDetailView(DetailView):
    def get_queryset(self) -> TemplateQuerySet:
        return Template.objects.visible_to(self.request.user)
