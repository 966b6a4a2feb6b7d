# SPDX-License-Identifier: GPL-3.0-or-later
"""What a name of the environment stands for, and the value it gets from this collection's variables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.groundwork.django.plugins.plugin_utils.detect.environment import Variable

#: what the role gunicorn_app sets itself
OF_THE_ROLE = frozenset(
    {
        "APP_VERSION",
        "DJANGO_SETTINGS_MODULE",
        "LOG_DIR",
        "MEDIA_ROOT",
        "PATH",
        "PROMETHEUS_MULTIPROC_DIR",
        "PYTHONUNBUFFERED",
        "STATIC_ROOT",
        "VIRTUAL_ENV",
    }
)
_DOMAINS = "groundwork_site_domains"
_ORIGINS = f"{_DOMAINS} | map('regex_replace', '^', 'https://')"
#: setting of Django, or pattern of the name -> what it is
_SETTINGS = {
    "SECRET_KEY": "secret key",
    "ALLOWED_HOSTS": "hosts",
    "CSRF_TRUSTED_ORIGINS": "origins",
    "DEBUG": "debug",
    "DATABASES.ENGINE": "engine",
    "DATABASES.NAME": "database name",
    "DATABASES.USER": "database user",
    "DATABASES.PASSWORD": "database password",
    "DATABASES.HOST": "database host",
    "DATABASES.PORT": "database port",
}
_DATABASE = r"(?:\w+_)?(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?"
_PATTERNS = {
    r"TEST_\w+": "",
    r"(?:DJANGO_|APP_)?SECRET(?:_KEY)?": "secret key",
    r"(?:\w+_)?ALLOWED_HOSTS?": "hosts",
    r"(?:\w+_)?(?:CSRF_TRUSTED|TRUSTED_CSRF|CORS_ALLOWED)_ORIGINS": "origins",
    r"(?:DJANGO_|APP_)?DEBUG": "debug",
    r"(?:\w+_)?(?:DATABASE|DB|POSTGRES|POSTGRESQL|PG)_UR[IL]": "database url",
    _DATABASE + "ENGINE": "engine",
    _DATABASE + "(?:NAME|DB|DATABASE)": "database name",
    _DATABASE + "(?:USER|USERNAME)": "database user",
    _DATABASE + "(?:PASSWORD|PASSWD|PASS)": "database password",
    _DATABASE + "(?:HOST|HOSTNAME|SERVER)": "database host",
    _DATABASE + "PORT": "database port",
    r"(?:SITE|BASE|APP|PUBLIC|ROOT|SERVER|FRONTEND)_URL": "site url",
    r"(?:DJANGO_|APP_|SITE_)?(?:ENV|ENVIRONMENT)|DJANGO_CONFIGURATION": "environment",
    r"CSP_MODE": "mode of the policy",
    r"CSP_REPORT_UR[IL]": "reports of the policy",
    r"REDIS_URL": "redis",
    r"(?:\w+_)?(?:REDIS|BROKER|RESULT_BACKEND)_UR[IL]|(?:CELERY_)?(?:BROKER|RESULT_BACKEND)": "broker",
    r"(?:JWT|SIGNING|SESSION)_(?:SECRET|KEY|SECRET_KEY|SIGNING_KEY)|(?:\w+_)?SALT": "own secret",
}


@dataclass(frozen=True)
class Meaning:
    """A value for a name, whether it belongs into the vault's part, and why it is this one."""

    value: str | bool
    why: str
    is_secret: bool = False


def kind(variable: Variable) -> str:
    """What a name is, by the setting it becomes or else by itself; nothing where neither tells."""
    found = _SETTINGS.get(variable.setting)
    if found:
        return found
    if variable.setting.startswith("DATABASES") and variable.name.endswith("_URL"):
        return "database url"
    return next((word for pattern, word in _PATTERNS.items() if re.fullmatch(pattern, variable.name)), "")


def meaning(variable: Variable, site: str, has_postgis: bool) -> Meaning | None:
    """The value of a name whose meaning is known. ``site`` is the name of the site, for names in the vault."""
    what = kind(variable)
    if what == "environment" and variable.code:
        return None
    if what in ("hosts", "origins"):
        separator = variable.separator if variable.separator in (" ", ",", ";", "|") else ","
        listed = _DOMAINS if what == "hosts" else _ORIGINS
        if variable.in_list:
            return Meaning(f"{{{{ {listed} | first }}}}", "one item of a list in the code: the first domain")
        return Meaning(f"{{{{ {listed} | join('{separator}') }}}}", "all domains")
    if what == "debug":
        is_on = variable.default not in ("False", "0", "", "false", "no", "off")
        # bool("False") is true, and int("False") an error.
        value = {"bool()": "", "int": "0", "int()": "0"}.get(variable.cast, False)
        return Meaning(value, "off on a real site") if is_on else None
    if what in ("secret key", "own secret"):
        value = f"{{{{ vault_{site}_{variable.name.lower()} }}}}"
        return Meaning(value, "scripts/make_vault.py makes a random value", is_secret=True)
    engine = "django.contrib.gis.db.backends.postgis" if has_postgis else "django.db.backends.postgresql"
    url = "groundwork_database_url" + (" | replace('postgresql://', 'postgis://', 1)" if has_postgis else "")
    simple = {
        "database url": (f"{{{{ {url} }}}}", "the site's own database"),
        "engine": (engine, "the site's own database"),
        "database name": ("{{ groundwork_database_name }}", "the site's own database"),
        "database user": ("{{ groundwork_database_user }}", "the site's own database"),
        "database host": ("{{ groundwork_database_host or '/var/run/postgresql' }}", "a directory is a unix socket"),
        "database port": ("{{ groundwork_database_port }}", "the site's own database"),
        "database password": ("", "none over the socket; for a database elsewhere move it to gunicorn_app_secrets"),
        "site url": (f"https://{{{{ {_DOMAINS} | first }}}}", "the first domain"),
        "mode of the policy": ("{{ groundwork_csp_mode }}", "as nginx has it"),
        "reports of the policy": ("{{ groundwork_csp_report_uri }}", "as nginx has it"),
        "environment": ("production", "a guess: look what the code makes of it"),
    }
    return Meaning(*simple[what]) if what in simple else None
