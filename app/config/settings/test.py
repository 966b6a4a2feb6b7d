"""The test suite: SQLite in memory unless TEST_DATABASE_URL names a server."""

import tempfile

import dj_database_url

from config import env

DEBUG = False
SECRET_KEY = "test-only-key-that-protects-nothing"
ALLOWED_HOSTS = ["testserver"]

DATABASES = {"default": dj_database_url.parse(env.secret("TEST_DATABASE_URL", "sqlite://:memory:"))}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MEDIA_ROOT = tempfile.gettempdir()
