"""The fixture site for loads: it runs with what the app is locked to, and answers what the mix asks for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from load import Load
from traffic import LOADABLE

ROOT = Path(__file__).resolve().parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "loadable"


@pytest.fixture
def served(tmp_path, site):
    """The fixture site, migrated and behind gunicorn with TLS: the port it listens on."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")},
        "DJANGO_SETTINGS_MODULE": "loadable.settings",
        "SECRET_KEY": "of-the-tests-" + "k" * 50,
        "ALLOWED_HOSTS": "site.test",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "STATIC_ROOT": str(tmp_path / "static"),
        "APP_VERSION": "release-7",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    manage = "from django.core.management import call_command as call; import django; django.setup();"
    calls = "call('check'); call('migrate', verbosity=0); call('collectstatic', interactive=False, verbosity=0)"
    subprocess.run([sys.executable, "-c", f"{manage} {calls}"], cwd=FIXTURE, env=environment, check=True, timeout=60)
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"]
    command += ["--no-control-socket", "--keep-alive", "75", "--bind", "127.0.0.1:0"]
    command += ["--certfile", str(site.root), "--keyfile", str(site.root), "loadable.wsgi:application"]
    server = subprocess.Popen(command, cwd=FIXTURE, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        listening = next(line for line in server.stderr if "Listening at" in line)
        yield int(re.search(r"127\.0\.0\.1:(\d+)", listening)[1])
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_the_site_gives_the_mix_what_it_expects(site, served):
    *others, slow = (replace(kind, weight=1) for kind in LOADABLE)
    release = replace(others[0], name="release", contains=b'"release": "release-7"')
    kinds = [*others, release, replace(slow, path="/slow?seconds=0.3", own_seconds=0.3)]
    url = f"https://site.test:{served}"
    with Load(url, kinds, rate=40, seconds=0.4, address="127.0.0.1", root=site.root) as load:
        result = load.wait()
    assert result.failed == []
    assert [len(result.of(kind.name).samples) for kind in kinds] == [2] * 8
    assert all(sample.beyond > 0 for sample in result.of("slow").samples)


def test_the_site_has_the_versions_of_the_app():
    def pins(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = (re.match(r"([a-z0-9-]+)==(\S+)(?: ; python_full_version >= '3\.11')? *\\?$", line) for line in lines)
        return {match[1]: match[2] for match in found if match}

    of_the_app = pins(ROOT / "app" / "requirements.txt")
    of_the_site = pins(FIXTURE / "requirements.txt")
    assert "django" in of_the_site
    assert of_the_site == {name: of_the_app.get(name) for name in of_the_site}
