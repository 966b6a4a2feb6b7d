from django.urls import path

from . import views

app_name = "forge"

urlpatterns = [
    path("", views.TemplateListView.as_view(), name="list"),
    path("favourites/", views.FavouriteListView.as_view(), name="favourites"),
    path("templates/<slug:slug>/", views.TemplateDetailView.as_view(), name="detail"),
    path("templates/<slug:slug>/prompt.md", views.DownloadView.as_view(extension="md"), name="download_md"),
    path("templates/<slug:slug>/prompt.txt", views.DownloadView.as_view(extension="txt"), name="download_txt"),
    path("templates/<slug:slug>/favourite/", views.FavouriteView.as_view(), name="favourite"),
    path("templates/<slug:slug>/versions/<int:number>/", views.VersionView.as_view(), name="version"),
]
