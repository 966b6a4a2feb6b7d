"""A developer's machine: nothing to set, SQLite, everything that is written below var/."""

from config import env

from .base import BASE_DIR

DEBUG = True
SECRET_KEY = "development-only-key-that-protects-nothing-on-a-laptop"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

_VAR = BASE_DIR / "var"
STATIC_ROOT = _VAR / "static"
MEDIA_ROOT = _VAR / "media"
MEDIA_ROOT.mkdir(parents=True, exist_ok=True)
READ_ONLY_FILE = env.path("READ_ONLY_FILE", str(_VAR / "read-only"))
BACKUP_DIRECTORY = env.path("BACKUP_DIRECTORY", str(_VAR / "backups"))

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _VAR / "forge.sqlite3"}}
