"""Ten releases and two rollbacks under load, without one failed request.

RATE requests a second come over TLS and through nginx: kept-alive and new connections, POSTs with a body, requests that
take two seconds. Latencies are printed, and judged nowhere: this machine does other work beside. Run alone, with
DRILL_RATE=200, it gives the figures of docs/performance.md.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from machine import DOMAINS, ROOT, Machine

sys.path.insert(0, str(ROOT / "tests" / "drills"))

from load import Load
from traffic import LOADABLE

RATE = int(os.environ.get("DRILL_RATE", "60"))
RELEASES = 10
ROLLBACKS = 2
PAUSE_SECONDS = 2


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the site for loads, which the test changes."""
    copy = tmp_path_factory.mktemp("source") / "loadable"
    shutil.copytree(ROOT / "tests" / "fixtures" / "loadable", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def loadable(converged: Machine, source: Path) -> Machine:
    """The machine with a second site on it, which is made to be loaded."""
    converged.inventory(
        "annex",
        groundwork_tls_mode="acme",
        gunicorn_app_source={"type": "directory", "path": str(source)},
        gunicorn_app_settings_module="loadable.settings",
        gunicorn_app_wsgi="loadable.wsgi:application",
        gunicorn_app_check_enabled=False,
        gunicorn_app_environment={"ALLOWED_HOSTS": DOMAINS["annex"], "DATABASE_URL": "{{ groundwork_database_url }}"},
        nginx_unlimited_networks=["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"],
    )
    converged.play("annex")
    return converged


def verb(machine: Machine, playbook: str) -> float:
    """Run a playbook for the site and return how long it took, in seconds."""
    began = time.monotonic()
    machine.play("annex", playbook=f"playbooks/{playbook}.yml")
    return time.monotonic() - began


def test_no_request_fails_while_releases_come_and_go(loadable, source, capsys):
    def release(number: int) -> None:
        with (source / "loadable" / "urls.py").open("a", encoding="utf-8") as stream:
            stream.write(f"# release {number}\n")

    work = [("deploy", number) for number in range(RELEASES)] + [("rollback", number) for number in range(ROLLBACKS)]
    took = []
    address, root = loadable.address, loadable.acme_root
    with Load(f"https://{DOMAINS['annex']}", LOADABLE, rate=RATE, address=address, root=root) as load:
        time.sleep(PAUSE_SECONDS)
        for playbook, number in work:
            if playbook == "deploy":
                release(number)
            took.append(verb(loadable, playbook))
            time.sleep(PAUSE_SECONDS)
        result = load.stop()
    with capsys.disabled():
        print(f"\n{result.table()}\nseconds of each: {', '.join(f'{seconds:.1f}' for seconds in took)}")
    assert result.failed == []
    audit = loadable.shell("cat /var/log/annex-releases/audit.jsonl")
    assert (audit.count('"released"'), audit.count('"rolled back"')) == (RELEASES + 1, ROLLBACKS)
