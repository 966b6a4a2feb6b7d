"""The WSGI entry point: config.wsgi:application."""

import os

from django.core.wsgi import get_wsgi_application

from config.bad_requests import without_odd_charsets

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = without_odd_charsets(get_wsgi_application())
