import re
import subprocess
import sys
from http.client import HTTPConnection
from socket import AF_UNIX, socket

import pytest

from .conftest import APP, inherited
from .servers import wait_until

WORKERS = 2
REQUESTS_OF_A_WORKER = 5
# More than the first workers answer together, so that others take over.
REQUESTS = WORKERS * REQUESTS_OF_A_WORKER + 2
CONFIGURATION = f"""
workers = {WORKERS}
max_requests = {REQUESTS_OF_A_WORKER}

def child_exit(server, worker):
    from prometheus_client import multiprocess
    multiprocess.mark_process_dead(worker.pid)
"""


def test_this_host_gets_them_whatever_the_host_header_says(client, db):
    client.get("/")
    for extra in ({}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "::1"}):
        response = client.get("/metrics", headers={"host": "not a host!"}, **extra)
        assert response.status_code == 200
        assert "django_http_requests_total_by_view_transport_method_total" in response.text


@pytest.mark.parametrize("extra", [{"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, {"REMOTE_ADDR": "198.51.100.7"}])
def test_for_everybody_else_there_is_no_such_page(client, db, extra):
    response = client.get("/metrics", **extra)
    assert response.status_code == 404
    assert "django_http" not in response.text


def test_hits_and_misses_of_the_cache_are_counted(client, with_redis):
    from django.core.cache import cache

    cache.get("missing")
    cache.set("key", 1)
    cache.get("key")
    with_redis.die()
    cache.get("key")
    text = client.get("/metrics").text
    for name in ("get", "get_hits", "get_misses", "get_fail"):
        assert float(re.search(rf'django_cache_{name}_total{{backend="redis"}} (\S+)', text)[1]) >= 1


class UnixConnection(HTTPConnection):
    def connect(self):
        self.sock = socket(AF_UNIX)
        self.sock.connect(self.host)


def ask(path: str, target: str, **headers: str) -> str:
    connection = UnixConnection(path)
    connection.request("GET", target, headers={"Host": "forge.example.org", **headers})
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def lives(path: str) -> bool:
    """Whether a server answers at a unix socket; it is there a moment before one listens to it."""
    try:
        return "ok" in ask(path, "/livez")
    except OSError:
        return False


def total(text: str) -> int:
    counts = re.findall(r"^django_http_requests_before_middlewares_total (\S+)$", text, re.MULTILINE)
    return int(float(counts[0])) if counts else 0


def test_counts_of_all_workers_add_up_and_survive_a_worker(ready_production, tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(CONFIGURATION)
    sock = tmp_path / "gunicorn.sock"
    command = ["-m", "gunicorn", "--config", str(configuration), "--bind", f"unix:{sock}", "config.wsgi"]
    environment = {**inherited(), **ready_production, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, *command], cwd=APP, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: lives(str(sock)))
        for _ in range(REQUESTS):
            page = ask(str(sock), "/", **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"})
            assert "Sign in" in page
        wait_until(lambda: total(ask(str(sock), "/metrics")) == REQUESTS)
        text = ask(str(sock), "/metrics")
        assert "django_db_" in text
        assert "django_migrations" not in text
        pids = {file.stem.split("_")[-1] for file in directory.glob("counter_*.db")}
        assert len(pids) > WORKERS
    finally:
        server.terminate()
        server.wait()


def test_directory_that_is_missing_stops_a_worker_with_one_sentence(production, tmp_path):
    environment = {**inherited(), **production, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}
    result = subprocess.run(
        [sys.executable, "-c", "import config.wsgi"], cwd=APP, env=environment, capture_output=True, text=True
    )
    assert "missing', which is no directory that can be written: make it, empty" in result.stderr


def test_commands_do_without_the_directory(manage, production, tmp_path):
    result = manage("check", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "missing"), **production)
    assert result.returncode == 0, result.stderr
