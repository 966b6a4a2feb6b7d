"""A real site behind a proxy that ends TLS. docs/app-contract.md lists what the environment must hold."""

from pathlib import Path

from config import database, env, storage

from .base import MIDDLEWARE as BASE_MIDDLEWARE
from .base import SILENCED_SYSTEM_CHECKS as BASE_SILENCED

DEBUG = False
SECRET_KEY = env.secret("SECRET_KEY", min_length=50)
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", [])

_CONN_MAX_AGE_SECONDS = env.integer("DATABASE_CONN_MAX_AGE_SECONDS", 60)
_STATEMENT_TIMEOUT_SECONDS = env.integer("DATABASE_STATEMENT_TIMEOUT_SECONDS", 30, maximum=env.LARGEST // 1000)
DATABASES = {
    "default": database.from_url(
        env.secret("DATABASE_URL"),
        _CONN_MAX_AGE_SECONDS,
        _STATEMENT_TIMEOUT_SECONDS,
        pool_mode=env.choice("DATABASE_POOL_MODE", database.POOL_MODES, "none"),
    )
}
_direct_url = env.secret("DATABASE_DIRECT_URL", "")
if _direct_url:
    DIRECT_DATABASE = database.from_url(
        _direct_url, _CONN_MAX_AGE_SECONDS, _STATEMENT_TIMEOUT_SECONDS, name="DATABASE_DIRECT_URL"
    )
    del DIRECT_DATABASE["ENGINE"]

# The same drivers, which count what they do.
DATABASES["default"]["ENGINE"] = DATABASES["default"]["ENGINE"].replace("django.db", "django_prometheus.db")

STATIC_ROOT = env.path("STATIC_ROOT")
STATIC_PUBLISHED = env.path("STATIC_PUBLISHED", "")
MEDIA_ROOT = env.path("MEDIA_ROOT")
# The site's state directory: a release can write there, and it outlives the release.
_STATE = Path(MEDIA_ROOT).parent
READ_ONLY_FILE = env.path("READ_ONLY_FILE", str(_STATE / "read-only"))
BACKUP_DIRECTORY = env.path("BACKUP_DIRECTORY", str(_STATE / "backups"))
STORAGES = {
    "default": storage.media(),
    "staticfiles": {"BACKEND": "config.static_files.SparingStaticFilesStorage"},
}
# The web server serves the static files; whitenoise does where there is none in front.
_after_security = BASE_MIDDLEWARE.index("django.middleware.security.SecurityMiddleware") + 1
MIDDLEWARE = [
    *BASE_MIDDLEWARE[:_after_security],
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *BASE_MIDDLEWARE[_after_security:],
]

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", True)
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

# The web server sends HSTS with every answer. These are for a site behind one that does not.
SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.boolean("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.boolean("SECURE_HSTS_PRELOAD", False)
# The last two bind names that this site does not own: leaving them off is the owner's decision, not an oversight.
SILENCED_SYSTEM_CHECKS = [*BASE_SILENCED, "security.W004", "security.W005", "security.W021"]
