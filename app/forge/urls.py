from django.urls import path

from . import views

app_name = "forge"

urlpatterns = [
    path("", views.TemplateListView.as_view(), name="list"),
    path("templates/<slug:slug>/", views.TemplateDetailView.as_view(), name="detail"),
]
