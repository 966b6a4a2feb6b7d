"""The test suite: SQLite in memory unless TEST_DATABASE_URL names a server.

TEST_ON_SQLITE=true keeps the suite on SQLite although a server is named; then only the tests that are about
PostgreSQL use it.
"""

import tempfile
from pathlib import Path

import dj_database_url

from config import env

DEBUG = False
SECRET_KEY = "test-only-key-that-protects-nothing"
ALLOWED_HOSTS = ["testserver"]

_SQLITE = "sqlite://:memory:"
_url = _SQLITE if env.boolean("TEST_ON_SQLITE", False) else env.secret("TEST_DATABASE_URL", _SQLITE)
DATABASES = {"default": dj_database_url.parse(_url)}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MEDIA_ROOT = tempfile.gettempdir()
READ_ONLY_FILE = str(Path(tempfile.gettempdir()) / "forge-tests-never-read-only")
BACKUP_DIRECTORY = str(Path(tempfile.gettempdir()) / "forge-tests-backups")
