"""What is proposed for checkouts of the shapes that real Django projects have, and that nothing of them is executed."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.groundwork.django.plugins.plugin_utils import detection, site_rules, specs
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import DetectionError

ROOT = Path(__file__).resolve().parents[4]
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "{}")\n'
WSGI = MANAGE + "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"

#: as startproject makes it: nothing is read from the environment
PLAIN = {
    "manage.py": MANAGE.format("shop.settings"),
    "shop/settings.py": """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "django-insecure-sentinel"
INSTALLED_APPS = ["django.contrib.admin"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
""",
    "shop/urls.py": 'urlpatterns = [path("admin/", admin.site.urls)]\n',
    "shop/wsgi.py": WSGI.format("shop.settings"),
    "requirements.txt": "Django>=5\nmysqlclient\n",
}

#: one settings module for each place, django-environ, one requirements file for each place, a worker, a front end
LAYERED = {
    "manage.py": MANAGE.format("config.settings.local"),
    "config/wsgi.py": WSGI.format("config.settings.production"),
    "config/celery.py": 'from celery import Celery\napp = Celery("library")\n',
    "config/settings/__init__.py": "",
    "config/settings/base.py": """
import environ
env = environ.Env(USE_CDN=(bool, False))
DATABASES = {"default": env.db("DATABASE_URL")}
USE_CDN = env("USE_CDN")
REDIS_URL = env("REDIS_URL")
CELERY_BROKER_URL = env("CELERY_BROKER_URL")
INSTALLED_APPS = ["library.books"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
MEDIA_URL = "/uploads/"
STATIC_URL = "/static/"
STATIC_ROOT = env("STATIC_ROOT")
""",
    "config/settings/local.py": 'from .base import *\nSECRET_KEY = env("LOCAL_KEY")\n',
    "config/settings/production.py": """
from .base import *
SECRET_KEY = env("DJANGO_SECRET_KEY")
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["example.com"])
PAY_API_KEY = env("PAY_API_KEY")
ADMIN_URL = env("ADMIN_URL")
MAIL_TOKEN = env.str("MAIL_TOKEN", "sentinel-token")
if env.bool("USE_S3", default=False):
    BUCKET = env("S3_BUCKET")
""",
    "config/urls.py": 'urlpatterns = [path("api/", include("library.urls")), path("ping/", ping)]\n',
    "library/urls.py": 'urlpatterns = [re_path(r"^healthz/$", view)]\n',
    "library/migrations/0001_initial.py": """
from django.contrib.postgres.operations import CreateExtension, TrigramExtension
class Migration(migrations.Migration):
    operations = [
        TrigramExtension(),
        CreateExtension("ltree"),
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS unaccent;"),
        migrations.RunPython(lambda apps, editor: editor.execute('create extension "uuid-ossp"')),
    ]
""",
    "locale/de/LC_MESSAGES/django.po": "",
    "requirements/base.txt": "django==5.2\npsycopg==3.2\n",
    "requirements/local.txt": "-r base.txt\npytest\n",
    "requirements/production.txt": "-r base.txt\ngunicorn==23.0.0\n",
    "package.json": '{"scripts": {"build": "webpack"}}',
    "package-lock.json": "{}",
    "production.yml": "services:\n  celerybeat:\n    command: celery -A config beat\n  web:\n    command: /start\n",
    ".python-version": "3.12.4\n",
}

#: manage.py below the top, decouple, parts of the database, a Procfile
BELOW = {
    "backend/manage.py": MANAGE.format("mysite.settings"),
    "backend/mysite/settings.py": """
from decouple import config, Csv
SECRET_KEY = config("APP_KEY")
DEBUG = config("DEBUG", default=True, cast=bool)
ALLOWED_HOSTS = config("HOSTS", cast=Csv())
STRIPE_PUBLIC_KEY = config("STRIPE_PUBLIC_KEY", "")
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": config("PGDATABASE"),
    "USER": config("PGUSER"),
    "PASSWORD": config("PGPASSWORD"),
    "HOST": config("PGHOST", default="localhost"),
}}
INSTALLED_APPS = []
STATIC_URL = config("STATIC_URL", default="https://cdn.example.org/shop")
""",
    "backend/mysite/wsgi.py": WSGI.format("mysite.settings"),
    "backend/mysite/urls.py": "",
    "frontend/package.json": '{"scripts": {"build": "vite build"}}',
    "frontend/yarn.lock": "",
    "requirements.txt": "django==5.2 --hash=sha256:00\npsycopg2==2.9 \\\n    --hash=sha256:00\n",
    "Procfile": "web: gunicorn mysite.wsgi\nrelease: ./manage.py migrate\nworker: python manage.py rqworker\n",
}

#: no manage.py: a package with a script, a lock of uv, GeoDjango, settings put together from several files
PACKAGED = {
    "pyproject.toml": """
[project]
name = "Geo-Portal"
requires-python = ">=3.12"
dependencies = ["django>=5", "psycopg[c]>=3.2"]
[project.optional-dependencies]
ldap = ["python-ldap"]
[project.scripts]
geoportal = "geoportal.cli:main"
[dependency-groups]
dev = ["pytest"]
""",
    "uv.lock": '[[package]]\nname = "django"\nversion = "5.2"\n',
    "src/geoportal/cli.py": MANAGE.format("geoportal.settings"),
    "src/geoportal/settings/__init__.py": """
from split_settings.tools import include, optional
include("parts/*.py", optional("local.py"))
""",
    "src/geoportal/settings/parts/database.py": """
import os, dj_database_url
DATABASES = {"default": dj_database_url.config(default="postgis:///geo")}
INSTALLED_APPS = ["django.contrib.gis"]
SECRET_KEY = os.environ["GEO_SECRET"]
DEBUG = int(os.environ.get("GEO_DEBUG", "1"))
ALLOWED_HOSTS = os.environ.get("GEO_HOSTS", "localhost").split(" ")
""",
    "src/geoportal/asgi.py": "application = get_asgi_application()\n",
}

#: readers of the project's own, in one flat module
OWN_READERS = {
    "manage.py": MANAGE.format("hc.settings"),
    "hc/settings.py": """
import os
def envbool(name, default):
    value = os.getenv(name, default)
    return {"True": True, "False": False}[value]
def envsecret(name, default=None):
    value = os.getenv(name)
    if value is None and default is None:
        raise ValueError(name)
    return value or default
def env_text(name, default=""):
    return os.environ.get(name, default)
SECRET_KEY = envsecret("SECRET_KEY")
DEBUG = envbool("DEBUG", "False")
TITLE = env_text("TITLE")
ENVIRONMENT = env_text("ENVIRONMENT", os.uname().nodename)
if "TRACING" in os.environ:
    INSTALLED_APPS = ["tracing"]
if os.getenv("DB") == "postgres":
    DATABASES = {"default": {"HOST": os.getenv("DB_HOST", ""), "NAME": os.environ["DB_NAME"]}}
""",
    "hc/wsgi.py": WSGI.format("hc.settings"),
    "poetry.lock": '[[package]]\nname = "gunicorn"\n',
    "pyproject.toml": """
[tool.poetry]
name = "hc"
[tool.poetry.dependencies]
python = "^3.11"
psycopg = {extras = ["binary"]}
""",
}
SHAPES = {"plain": PLAIN, "layered": LAYERED, "below": BELOW, "packaged": PACKAGED, "own_readers": OWN_READERS}


@pytest.fixture
def propose(tmp_path: Path):
    """A function that makes a checkout of these files, named shop, and returns the page for it."""

    def make(files: dict[str, str]) -> detection.Page:
        for name, text in files.items():
            path = tmp_path / "shop" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return detection.detect(str(tmp_path / "shop"))

    return make


def prose(page: detection.Page) -> str:
    """The page with the wrapping of its comments taken back."""
    return re.sub(r"\n *# (?!\w+:)", " ", page.text())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_page_is_yaml_that_sets_what_it_says(propose, shape):
    page = propose(SHAPES[shape])
    assert yaml.safe_load(page.text()) == page.values


@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_passes_the_argument_specs_of_the_roles(propose, shape):
    options = {}
    for role in ("site_settings", "postgres", "gunicorn_app", "certbot"):
        options.update(specs.load_options(ROOT / "roles" / role))
    page = propose(SHAPES[shape])
    assert set(page.values) <= set(options)
    assert [fault for name, value in page.values.items() for fault in specs.faults(name, options[name], value)] == []
    commented = set(re.findall(r"^# (g\w+|postgres_\w+|certbot_\w+):", page.text(), re.MULTILINE))
    assert commented <= set(options)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_has_a_reason_above_it(propose, shape):
    for before, line in itertools.pairwise(propose(SHAPES[shape]).text().splitlines()):
        if re.match(r"[a-z_]+:", line) or re.match(r"  [A-Z_]+:", line):
            assert before.lstrip().startswith("# "), line


def test_a_project_as_startproject_makes_it_hears_what_it_must_change(propose):
    page = propose(PLAIN)
    values = page.values
    assert values["gunicorn_app_settings_module"] == "shop.settings"
    assert values["gunicorn_app_wsgi"] == "shop.wsgi:application"
    assert values["gunicorn_app_health"] == {"path": "/"}
    assert values["groundwork_site_static_url"] == "/static/"
    assert values["gunicorn_app_requirements_hashed_enabled"] is False
    assert "gunicorn_app_environment" not in values
    text = prose(page)
    assert "shop/settings.py:9." in text
    assert "STATIC_ROOT is not read from the environment (shop/settings.py:10)" in text
    assert "No name for the database is read from the environment" in text
    assert "No driver of PostgreSQL is among the requirements" in text
    assert "not MySQL (requirements.txt:2)" in text
    assert "SECRET_KEY should come from the environment" in text


def test_production_wins_over_what_manage_py_says(propose):
    page = propose(LAYERED)
    values = page.values
    assert values["gunicorn_app_settings_module"] == "config.settings.production"
    assert values["gunicorn_app_requirements"] == ["requirements/production.txt"]
    assert values["groundwork_database_extensions"] == ["pg_trgm", "ltree", "unaccent", "uuid-ossp"]
    assert values["groundwork_site_media_url"] == "/uploads/"
    assert values["gunicorn_app_health"] == {"path": "/api/healthz/"}
    assert values["gunicorn_app_system_packages"] == ["libpq5"]
    assert values["gunicorn_app_build_packages"] == ["nodejs", "npm", "gettext"]
    assert values["gunicorn_app_build_commands"] == [
        {"command": "npm ci && npm run build"},
        {"command": "python manage.py compilemessages"},
    ]
    assert "LOCAL_KEY" not in page.text()
    beat = {"name": "celerybeat", "command": ["celery", "-A", "config", "beat"]}
    assert values["gunicorn_app_processes"] == [beat]
    assert "gunicorn is among the requirements (requirements/production.txt:2)" in prose(page)
    assert '"3.12.4" (.python-version:1)' in prose(page)


def test_names_are_split_into_secrets_and_others_required_and_optional(propose):
    page = propose(LAYERED)
    assert page.values["gunicorn_app_environment"] == {
        "DJANGO_ALLOWED_HOSTS": "{{ groundwork_site_domains | join(',') }}",
        "DATABASE_URL": "{{ groundwork_database_url }}",
    }
    assert page.values["gunicorn_app_secrets"] == {
        "DJANGO_SECRET_KEY": "{{ vault_shop_django_secret_key }}",
        "PAY_API_KEY": "{{ vault_shop_pay_api_key }}",
    }
    assert page.values["groundwork_redis_enabled"] is True
    lines = page.text().splitlines()
    for line in (
        '  # ADMIN_URL: ""  # config/settings/production.py:6, required',
        '  # USE_S3: "False"  # config/settings/production.py:8, optional',
        '  # S3_BUCKET: ""  # config/settings/production.py:9, required under a condition',
        '  # USE_CDN: "False"  # config/settings/base.py:5, optional',
        '  # MAIL_TOKEN: "{{ vault_shop_mail_token }}"  # config/settings/production.py:7, optional',
    ):
        assert line in lines
    assert "STATIC_ROOT (config/settings/base.py:13)" in prose(page)
    assert any(line.startswith('  # CELERY_BROKER_URL: "redis://') for line in lines)


def test_a_project_below_the_top_of_its_repository(propose):
    page = propose(BELOW)
    values = page.values
    assert values["gunicorn_app_project_subdir"] == "backend"
    assert values["gunicorn_app_wsgi"] == "mysite.wsgi:application"
    assert values["gunicorn_app_requirements"] == ["requirements.txt"]
    assert values["gunicorn_app_requirements_hashed_enabled"] is True
    assert values["gunicorn_app_build_packages"] == ["gcc", "libpq-dev", "python3-dev", "nodejs", "npm"]
    (command,) = values["gunicorn_app_build_commands"]
    assert command["command"].startswith('cd "$(pwd -P)/../frontend" && npx --yes yarn install')
    assert values["groundwork_site_static_url"] == "https://cdn.example.org/shop/"
    assert values["gunicorn_app_secrets"] == {"APP_KEY": "{{ vault_shop_app_key }}"}
    assert values["gunicorn_app_environment"] == {
        "DEBUG": False,
        "HOSTS": "{{ groundwork_site_domains | join(',') }}",
        "PGDATABASE": "{{ groundwork_database_name }}",
        "PGUSER": "{{ groundwork_database_user }}",
        "PGPASSWORD": "",
        "PGHOST": "{{ groundwork_database_host or '/var/run/postgresql' }}",
    }
    worker = {"name": "worker", "command": ["python", "manage.py", "rqworker"]}
    assert values["gunicorn_app_processes"] == [worker]
    assert "What runs beside the web server: worker, Procfile:3." in prose(page)
    assert '# STRIPE_PUBLIC_KEY: ""' in page.text()


def test_a_package_without_manage_py_and_with_a_lock(propose):
    page = propose(PACKAGED)
    values = page.values
    assert values["groundwork_site_name"] == "geo_portal"
    assert values["gunicorn_app_manage_command"] == ["geoportal"]
    assert values["gunicorn_app_settings_module"] == "geoportal.settings"
    assert values["groundwork_database_extensions"] == ["postgis"]
    assert values["postgres_extra_packages"] == ["postgresql-postgis"]
    assert values["gunicorn_app_system_packages"] == ["libpq5", "gdal-bin"]
    assert values["gunicorn_app_environment"] == {
        "DATABASE_URL": "{{ groundwork_database_url | replace('postgresql://', 'postgis://', 1) }}",
        "GEO_DEBUG": "0",
        "GEO_HOSTS": "{{ groundwork_site_domains | join(' ') }}",
    }
    assert values["gunicorn_app_secrets"] == {"GEO_SECRET": "{{ vault_geo_portal_geo_secret }}"}
    assert "gunicorn_app_requirements" not in values
    text = prose(page)
    assert values["gunicorn_app_installer"] == "lock"
    assert "extra ldap, group dev" in text
    assert '# gunicorn_app_extras: ["redis"]' in page.text()
    assert '">=3.12" (pyproject.toml:4)' in text
    assert values["gunicorn_app_asgi"] == "geoportal.asgi:application"


def test_a_projects_own_readers_are_understood(propose):
    page = propose(OWN_READERS)
    assert page.values["gunicorn_app_secrets"] == {"SECRET_KEY": "{{ vault_hc_secret_key }}"}
    assert page.values["gunicorn_app_environment"] == {
        "DB_HOST": "{{ groundwork_database_host or '/var/run/postgresql' }}",
        "DB_NAME": "{{ groundwork_database_name }}",
    }
    lines = page.text().splitlines()
    assert '  # TITLE: ""  # hc/settings.py:15, optional' in lines
    assert '  # TRACING: ""  # hc/settings.py:17, optional' in lines
    assert "gunicorn_app_system_packages" not in page.values
    assert "poetry export" in prose(page)


def test_the_remote_of_git_is_the_source_without_its_credentials(propose):
    config = '[remote "origin"]\n\turl = https://ada:sentinel@git.example.org/shop.git\n'
    page = propose({**PLAIN, ".git/config": config, ".git/HEAD": "ref: refs/heads/stable\n"})
    assert page.values["gunicorn_app_source"] == {
        "type": "git",
        "url": "https://git.example.org/shop.git",
        "ref": "stable",
    }
    assert "sentinel" not in page.text()


@pytest.mark.parametrize("shape", ["plain", "layered"])
def test_no_default_of_a_secret_is_shown(propose, shape):
    assert "sentinel" not in propose(SHAPES[shape]).text()


def test_no_password_is_shown_that_hides_in_code_or_in_a_url(propose):
    settings = """import os
SECRET_KEY = os.environ.get("CRYPTO", make("sentinel"))
TOKEN = os.environ.get("SMS_TOKEN", make("sentinel"))
SEARCH = os.environ.get("SEARCH_URL", "https://ada:sentinel@search.example.org")
QUEUE = os.environ.get("QUEUE_URL", make("https://ada:sentinel@queue.example.org"))
"""
    procfile = "worker: celery -b redis://:sentinel@queue.example.org worker\n"
    page = propose({**PLAIN, "shop/settings.py": settings, "Procfile": procfile})
    assert "sentinel" not in page.text()
    assert 'SEARCH_URL: ""' in page.text()
    assert "celery -b redis://***@queue.example.org worker" in prose(page)


def test_nothing_is_executed(propose, tmp_path):
    trap = f'open({str(tmp_path / "executed")!r}, "w")\n'
    propose({name: trap + text if name.endswith(".py") else text for name, text in LAYERED.items()})
    assert not (tmp_path / "executed").exists()


def test_text_of_a_checkout_becomes_neither_a_template_nor_a_line(propose):
    evil = "{{ lookup('pipe', 'id') }}"
    settings = PLAIN["shop/settings.py"].replace('"static/"', repr(f"https://x/{evil}/"))
    settings += f"import os\nTITLE = os.environ.get('TITLE', {evil + chr(10) + 'groundwork_environment: x'!r})\n"
    settings += "COLOUR = os.environ.get('COLOUR', '\\x1b[31m\\x85x')\n"
    package = '{"scripts": {"build": "x"}}'
    procfile = "worker: run \x1b[31m\u2028groundwork_environment: x\n"
    page = propose({**PLAIN, "shop/settings.py": settings, f"{evil}/package.json": package, "Procfile": procfile})
    assert yaml.safe_load(page.text()) == page.values
    assert evil not in str(page.values)
    assert "groundwork_environment" not in page.values
    assert all(line.isprintable() for line in page.text().split("\n"))


def test_a_link_out_of_the_checkout_is_not_followed(propose, tmp_path):
    (tmp_path / "secret").write_text("3.99-sentinel\n", encoding="utf-8")
    (tmp_path / "shop").mkdir()
    os.symlink(tmp_path / "secret", tmp_path / "shop" / ".python-version")
    assert "sentinel" not in propose(PLAIN).text()


def test_a_file_that_is_no_python_is_named_and_the_rest_goes_on(propose):
    page = propose({**LAYERED, "config/settings/base.py": "DEBUG = (\n", "pyproject.toml": "[project\n"})
    text = prose(page)
    assert re.search(r"config/settings/base.py cannot be read by Python \S+: line 1: ", text)
    assert "pyproject.toml could not be read" in text
    assert page.values["gunicorn_app_settings_module"] == "config.settings.production"
    assert "DJANGO_SECRET_KEY" in page.values["gunicorn_app_secrets"]


def test_wrong_input_is_one_sentence_with_a_remedy(tmp_path):
    with pytest.raises(DetectionError) as gone:
        detection.detect(str(tmp_path / "gone"))
    assert str(gone.value) == (f'source is "{tmp_path}/gone", which is no directory of this machine: name a checkout.')
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DetectionError) as empty:
        detection.detect(str(tmp_path))
    assert str(empty.value) == (
        f'source is "{tmp_path}", where neither manage.py nor the settings of a Django project are: name the directory '
        "that holds manage.py, or one up to two levels above it."
    )


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ({"requirements.txt": "django\n", "requirements-dev.txt": "pytest\n"}, ["requirements.txt"]),
        (
            {"requirements.txt": "django\n", "requirements-prod.txt": "gunicorn\n"},
            ["requirements.txt", "requirements-prod.txt"],
        ),
        ({"requirements/base.txt": "django\n", "requirements/dev.txt": "-r base.txt\n"}, ["requirements/base.txt"]),
    ],
)
def test_the_requirements_of_a_real_site(propose, files, chosen):
    page = propose({**{name: text for name, text in PLAIN.items() if name != "requirements.txt"}, **files})
    assert page.values["gunicorn_app_requirements"] == chosen


@pytest.mark.parametrize(
    ("package", "files", "chosen"),
    [
        ("from .dev import *\n", ["dev", "production"], "shop.settings.production"),
        ("import os\nMODE = os.environ['MODE']\n", ["dev", "production"], "shop.settings"),
        ("from .base import *\n", ["base", "dev"], "shop.settings"),
    ],
)
def test_a_settings_package_that_chooses_by_itself_is_left_to_it(propose, package, files, chosen):
    shop = {name: text for name, text in PLAIN.items() if name != "shop/settings.py"}
    shop["shop/settings/__init__.py"] = package
    page = propose({**shop, **{f"shop/settings/{name}.py": "" for name in files}})
    assert page.values["gunicorn_app_settings_module"] == chosen


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("My Shop!", "my_shop"),
        ("2nd-try", "site_2nd_try"),
        ("redis", "site_redis"),
        ("x", "site_x"),
        ("a" * 40, "a" * 24),
    ],
)
def test_the_name_of_the_project_becomes_one_that_a_site_may_have(propose, name, site):
    page = propose({**PLAIN, "pyproject.toml": f'[project]\nname = "{name}"\n'})
    assert page.values["groundwork_site_name"] == site
    assert list(site_rules.site_name_faults(site)) == []


@pytest.mark.parametrize(
    ("files", "installer", "said"),
    [
        ({"pyproject.toml": '[project]\nname = "shop"\n'}, "project", "have no lock"),
        ({"pyproject.toml": '[project]\nname = "shop"\n', "uv.lock": ""}, "lock", "uv.lock."),
        ({"poetry.lock": "", "pyproject.toml": '[tool.poetry]\nname = "shop"\n'}, None, "poetry export --only main"),
        ({"Pipfile.lock": "{}"}, None, "pipenv requirements --hash"),
    ],
)
def test_a_project_without_requirements_files_gets_an_installer_or_a_remedy(propose, files, installer, said):
    page = propose({**{name: text for name, text in PLAIN.items() if name != "requirements.txt"}, **files})
    assert page.values.get("gunicorn_app_installer") == installer
    assert said in prose(page)
