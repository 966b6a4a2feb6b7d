"""The addresses of the site. The health pages are not here: a middleware answers them."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

urlpatterns = [
    path("", include("forge.urls")),
    path("api/", include("forge.api.urls")),
    path("login/", auth_views.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # Only with DEBUG; a real site's web server serves the uploads.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
