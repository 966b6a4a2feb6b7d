"""What is the same everywhere."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from config import cache, env, headers, logs

BASE_DIR = Path(__file__).resolve().parents[2]

APP_NAME = "forge"
APP_VERSION = env.text("APP_VERSION", "unknown")

INSTALLED_APPS = [
    "forge",
    "health",
    "operations",
    "axes",
    "csp",
    "django_prometheus",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "drf_spectacular",
]

MIDDLEWARE = [
    # First: a probe knows neither the site's name nor its scheme, so nothing may refuse or redirect it.
    "health.middleware.HealthMiddleware",
    "config.metrics.MetricsMiddleware",
    "config.logs.RequestMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "config.bad_requests.BadRequestMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.read_only.ReadOnlyMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "forge.context.app",
                "config.read_only.context",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["config.login_limit.Backend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "forge:list"
LOGOUT_REDIRECT_URL = "forge:list"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# JSON and nothing else: the pages that the framework brings would need "rest_framework" as an app, and inline scripts.
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_THROTTLE_CLASSES": ["forge.api.throttles.VisitorThrottle", "forge.api.throttles.UserThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "120/min", "user": "600/min"},
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Forge",
    "DESCRIPTION": "Prompt templates, to be read only.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
MEDIA_URL = "/media/"

# The web server reads uploads as another user; MEDIA_ROOT's own mode decides who gets that far.
FILE_UPLOAD_PERMISSIONS = 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755

REDIS_URL = env.secret("REDIS_URL", "")
CACHES = {
    "default": cache.from_url(
        REDIS_URL,
        prefix=APP_NAME,
        timeout_milliseconds=env.integer("REDIS_TIMEOUT_MILLISECONDS", 250, minimum=1),
        pause_seconds=env.integer("REDIS_PAUSE_SECONDS", 5),
    )
}
SESSION_ENGINE = "config.sessions.cached_db" if REDIS_URL else "config.sessions.db"

AXES_HANDLER = "axes.handlers.cache.AxesCacheHandler"
AXES_FAILURE_LIMIT = env.integer("LOGIN_FAILURE_LIMIT", 10, minimum=1)
AXES_COOLOFF_TIME = timedelta(seconds=env.integer("LOGIN_BLOCK_SECONDS", 900, minimum=1))
AXES_LOCKOUT_PARAMETERS = "config.login_limit.counted_by"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "config.clients.counted_as"
AXES_USERNAME_CALLABLE = "config.login_limit.name"
AXES_LOCKOUT_CALLABLE = "config.login_limit.answer"
# The counts are in the cache: neither its tables nor its pages in the admin are needed.
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
MIGRATION_MODULES = {"axes": None}
# Without Redis each process counts for itself, which the contract says.
SILENCED_SYSTEM_CHECKS = [] if REDIS_URL else ["axes.W001"]

_policy = headers.content_security_policy(env.header_url("CSP_REPORT_URI", ""))
_mode = env.choice("CSP_MODE", headers.MODES, "enforce")
CONTENT_SECURITY_POLICY = _policy if _mode == "enforce" else None
CONTENT_SECURITY_POLICY_REPORT_ONLY = _policy if _mode == "report_only" else None

# What differs from the default database on the way past a pool; nothing where there is none.
DIRECT_DATABASE: dict[str, Any] = {}

READ_ONLY = env.boolean("READ_ONLY", False)
READ_ONLY_RETRY_SECONDS = env.integer("READ_ONLY_RETRY_SECONDS", 300, minimum=1)

HEALTH_FREE_MEGABYTES = env.integer("HEALTH_FREE_MEGABYTES", 100)

PROMETHEUS_EXPORT_MIGRATIONS = False
_metrics_directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if _metrics_directory and not os.access(_metrics_directory, os.W_OK | os.X_OK):
    raise ImproperlyConfigured(
        f"PROMETHEUS_MULTIPROC_DIR names {_metrics_directory!r}, which is no directory that can be written: "
        "make it, empty, before gunicorn starts."
    )

LOG_DIR = env.text("LOG_DIR", "")
LOGGING = logs.configuration(
    level=env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO"),
    directory=LOG_DIR,
)

_sentry_dsn = env.secret("SENTRY_DSN", "")
if _sentry_dsn:
    from config import errors

    errors.start(
        _sentry_dsn,
        release=f"{APP_NAME}@{APP_VERSION}",
        environment=env.text("SENTRY_ENVIRONMENT", env.text("DJANGO_ENV", "development")),
    )
