"""`playbooks/detect.yml` prints YAML for a checkout, and the roles take it as it is; a wrong source is one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from repository import ROOT

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
SHOP = {
    "manage.py": 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n',
    "shop/settings.py": """import os
SECRET_KEY = os.environ["SHOP_KEY"]
ALLOWED_HOSTS = os.environ["HOSTS"].split()
WSGI_APPLICATION = "shop.wsgi.application"
ROOT_URLCONF = "shop.urls"
STATIC_URL = "assets/"
""",
    "shop/urls.py": 'urlpatterns = [path("health/", health)]\n',
    "shop/migrations/0001_initial.py": "operations = [HStoreExtension()]\n",
    "requirements/prod.txt": "django==5.2\npsycopg[binary]==3.2\n",
}
CHECK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - groundwork.django.check_values:
        roles: [site_settings, postgres, gunicorn_app]
"""


@pytest.fixture
def play(tmp_path):
    """A function that runs a playbook without an inventory, elsewhere than in the repository."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.ansible/collections:{sysconfig.get_paths()['purelib']}",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        }
        command = [PLAYBOOK, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.fixture
def shop(tmp_path):
    """A small checkout."""
    for name, text in SHOP.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "shop"


def printed(done: subprocess.CompletedProcess) -> str:
    """The page that a run has printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"^# Proposed by .*?(?=^(?:TASK|PLAY|ok:) )", done.stdout, re.MULTILINE | re.DOTALL)[0]


def test_the_reference_app(play):
    page = printed(play("groundwork.django.detect", "-e", f"source={ROOT}/app"))
    values = yaml.safe_load(page)
    assert values["gunicorn_app_source"] == {"type": "directory", "path": f"{ROOT}/app"}
    assert values["gunicorn_app_settings_module"] == "config.settings"
    assert values["gunicorn_app_wsgi"] == "config.wsgi:application"
    assert values["gunicorn_app_requirements_hashed_enabled"] is True
    assert values["gunicorn_app_health"] == {"path": "/readyz"}
    written = yaml.safe_load((ROOT / "group_vars/prod/site.yml").read_text(encoding="utf-8"))
    assert values["gunicorn_app_environment"] == written["gunicorn_app_environment"]
    assert set(values["gunicorn_app_secrets"]) == set(written["gunicorn_app_secrets"])
    assert re.search(r"^# groundwork_redis_enabled: true$", page, re.MULTILINE)


def test_the_proposal_for_a_checkout_passes_the_check_of_the_roles(play, shop, tmp_path):
    page = printed(play(str(ROOT / "playbooks/detect.yml"), "-e", "source=shop"))
    assert "# shop/settings.py:2, required; scripts/make_vault.py makes a random value." in page
    assert 'SHOP_KEY: "{{ vault_shop_shop_key }}"' in page
    assert yaml.safe_load(page)["groundwork_database_extensions"] == ["hstore"]
    filled = re.sub(r"^# (groundwork_site_domains:)", r"\1", page, flags=re.MULTILINE) + 'vault_shop_shop_key: "x"\n'
    (tmp_path / "site.yml").write_text(filled, encoding="utf-8")
    (tmp_path / "check.yml").write_text(CHECK, encoding="utf-8")
    checked = play("check.yml", "-e", "@site.yml")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "source is not set: name a checkout, as in -e source=/path/to/project."),
        ("/no/such", 'source is "/no/such", which is no directory of this machine: name a checkout.'),
    ],
)
def test_a_wrong_source_is_one_sentence(play, source, sentence):
    done = play(str(ROOT / "playbooks/detect.yml"), "-e", f"source={source}")
    assert done.returncode != 0
    assert sentence in done.stdout.replace('\\"', '"')
