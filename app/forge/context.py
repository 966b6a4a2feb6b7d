from django.conf import settings
from django.http import HttpRequest


def app(request: HttpRequest) -> dict[str, str]:
    """Give every page the version that serves it."""
    return {"app_version": settings.APP_VERSION}
