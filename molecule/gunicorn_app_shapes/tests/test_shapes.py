"""What docs/projects.md promises of each shape; the values that deploy them are in sites/."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import tomllib
from pathlib import Path

import pytest
import yaml

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
FIXTURES = SCENARIO.parents[1] / "tests" / "fixtures"
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "shapes"
VALUES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (SCENARIO / "sites").glob("*.yml")}
PAUSE_SECONDS = 2


def deploy(site: str, **values: object) -> tuple[bool, str]:
    """Release a site with its values, or some others. Returns whether that went well, and what was said."""
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    extra = json.dumps({"lab_site": site, **{f"gunicorn_app_{name}": value for name, value in values.items()}})
    command = ["ansible-playbook", "-i", str(inventory), "--tags", "deploy", "-e", extra, str(SCENARIO / "site.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, " ".join((done.stdout + done.stderr).split())


def directory(path: Path) -> dict[str, str]:
    """A source on the controller."""
    return {"type": "directory", "path": str(path)}


def live(host, site: str) -> str:
    """Release that a site serves."""
    slot = host.check_output(f"basename $(readlink /srv/{site}/live)")
    return host.check_output(f"basename $(readlink /srv/{site}/slots/{slot})")


@pytest.fixture
def page(get):
    """Return a function that asks a site for a page, and wants it."""

    def ask(site: str, path: str = "/", **options: object) -> bytes:
        answer = get(path, name=f"{site}.test", scheme="http", **options)
        assert answer.status in (200, 202), (answer.status, answer.body[:300])
        return answer.body

    return ask


@pytest.fixture
def front(page):
    """Return a function that asks a site for its front page, which is JSON."""
    return lambda site: json.loads(page(site))


def release(site: str, **values: object) -> None:
    """Release a site with other values. It keeps them: such a test is the last one about its site."""
    done, output = deploy(site, **values)
    assert done, output


@pytest.mark.parametrize("site", sorted(VALUES))
def test_site_serves_its_release_from_one_slot(host, page, site):
    assert page(site)
    running = [slot for slot in ("blue", "green") if host.service(f"{site}@{slot}").is_running]
    assert len(running) == 1
    assert host.check_output(f"basename $(readlink /srv/{site}/live)") == running[0]


def test_every_unit_is_well(host):
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


# nested: a project below the root, with files of the values and data inside the tree


def test_project_below_the_root_runs_with_the_settings_for_production(host, front):
    assert (front("nested")["settings"], front("nested")["debug"]) == ("nested.settings.production", False)
    shown = host.check_output(
        "nested-manage shell -c %s", "from django.conf import settings; print(settings.INI._sections)"
    )
    assert "nested is served under nested.test" in shown


def test_files_of_the_values_are_in_the_release_and_the_site_may_only_read_them(host, front):
    assert front("nested")["greeting"] == "good morning"
    assert front("nested")["motto"] == "nested is served under nested.test"
    for name in ("server/nested/settings/local.py", "nested.ini"):
        file = host.file(f"/srv/nested/live/source/{name}")
        assert (file.user, file.group, file.mode) == ("root", "nested", 0o640), name


def test_generated_secrets_are_for_root_only_and_as_long_as_asked_for(host, front):
    kept = host.file("/etc/groundwork/gunicorn_app/nested.secrets.json")
    assert (kept.user, kept.mode) == ("root", 0o600)
    salt = front("nested")["salt"]
    assert len(salt) == 32 and set(salt) <= set("0123456789abcdef")
    assert salt in kept.content_string
    assert salt not in host.check_output("cat /var/log/nested-releases/*.log; journalctl --no-pager; ps -eww -o args")


def test_release_keeps_secrets_and_shared_data_and_takes_changed_files(host, front, page, tmp_path):
    before = front("nested")
    assert page("nested", "/notes").startswith(b"a note of the repository\n")
    page("nested", "/notes", method="POST", body=b"a note of a visitor")
    page("nested", "/uploads/picture", method="POST", body=b"\x89PNG")
    copy = tmp_path / "site"
    shutil.copytree(FIXTURES / "nested_site", copy)
    (copy / "server" / "data" / "notes" / "notes.txt").write_text("a note of the next version\n", encoding="utf-8")
    files = [
        {"dest": "server/nested/settings/local.py", "content": "ALLOWED_HOSTS = ['*']\nGREETING = 'good evening'\n"},
        VALUES["nested"]["gunicorn_app_files"][1],
    ]
    release("nested", source=directory(copy), files=files)
    after = front("nested")
    assert after["release"] != before["release"]
    assert (after["secret"], after["salt"]) == (before["secret"], before["salt"])
    assert (before["greeting"], after["greeting"]) == ("good morning", "good evening")
    notes = page("nested", "/notes")
    assert notes.startswith(b"a note of the repository\n") and notes.endswith(b"a note of a visitor\n")
    assert page("nested", "/uploads/picture") == b"\x89PNG"


# locked: uv.lock with groups and extras, a package in src/ layout


def test_packages_are_those_of_the_lock_with_the_group_and_the_extra(front):
    lock = tomllib.loads((FOLDER / "locked_site" / "uv.lock").read_text(encoding="utf-8"))
    locked = {package["name"]: package["version"] for package in lock["package"]}
    installed = front("locked")
    for name in ("django", "asgiref", "sqlparse", "dj-database-url", "whitenoise"):
        assert installed[name] == locked[name], name
    assert "iniconfig" in locked


def test_dev_group_is_not_installed(front):
    assert "iniconfig" not in front("locked")


def test_project_itself_and_gunicorn_are_installed_beside_the_lock(host, front):
    assert front("locked")["locked"] == "1.0"
    assert "gunicorn" in front("locked")
    assert host.check_output("cd / && /srv/locked/live/venv/bin/python -c 'import locked; print(locked.__file__)'")


def test_static_files_of_an_installed_project_are_collected(host, page):
    name = host.check_output("cd /srv/locked/static && ls locked.*.css")
    assert page("locked", f"/static/{name}") == b"body { margin: 0 }\n"


def test_python_that_the_project_refuses_stops_the_release_in_one_sentence(host, page, tmp_path):
    before = live(host, "locked")
    copy = tmp_path / "site"
    shutil.copytree(FOLDER / "locked_site", copy)
    project = copy / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace('requires-python = ">=3.10"', 'requires-python = ">=3.99"'), encoding="utf-8")
    done, output = deploy("locked", source=directory(copy))
    version = host.check_output("python3 -c 'import platform; print(platform.python_version())'")
    assert not done
    assert ">=3.99" in output and version.rpartition(".")[0] in output, output
    assert live(host, "locked") == before
    assert page("locked")


# asgi and granian: WebSockets and streams


def exactly(stream: socket.socket, count: int) -> bytes:
    """The next bytes of a connection."""
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        assert more, data
        data += more
    return data


@pytest.mark.parametrize("site", ["asgi", "granian"])
def test_web_socket_is_opened_and_answers(address, site):
    text = b"a word"
    with socket.create_connection((address, 80), timeout=15) as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        stream.sendall(
            f"GET /echo HTTP/1.1\r\nHost: {site}.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(stream, 1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        # One frame of text, masked with zeros as a client has to.
        stream.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        kind, length = exactly(stream, 2)
        assert (kind, exactly(stream, length)) == (0x81, f"{site}.test heard a word".encode())


@pytest.mark.parametrize("site", ["asgi", "granian"])
def test_stream_arrives_as_it_is_sent(address, site):
    with socket.create_connection((address, 80), timeout=15) as stream:
        stream.sendall(f"GET /stream HTTP/1.1\r\nHost: {site}.test\r\nConnection: close\r\n\r\n".encode())
        received, first = b"", 0.0
        while b"second" not in received:
            received += exactly(stream, 1)
            if not first and b"first" in received:
                first = time.monotonic()
        assert time.monotonic() - first > PAUSE_SECONDS / 2


@pytest.mark.parametrize(("site", "servers"), [("asgi", ["gunicorn", "uvicorn"]), ("granian", ["granian"])])
def test_site_is_served_by_the_server_of_its_values(front, site, servers):
    assert front(site)["servers"] == servers
    assert front(site)["secure"]


def test_environment_arrives_byte_for_byte_in_another_server(page):
    values = VALUES["granian"]
    for name, value in {**values["gunicorn_app_environment"], **values["gunicorn_app_secrets"]}.items():
        if isinstance(value, str):
            assert bytes.fromhex(page("granian", f"/environment/{name}").decode()) == value.encode(), name


@pytest.mark.parametrize("site", ["asgi", "granian"])
def test_release_switches_without_dropping_a_request(front, get, site):
    before = front(site)["release"]
    faults, versions, end = [], set(), threading.Event()

    def ask(path: str) -> None:
        while not end.is_set():
            try:
                answer = get(path, name=f"{site}.test", scheme="http")
                if answer.status != 200:
                    faults.append((path, answer.status, answer.body[:100]))
                elif path == "/":
                    versions.add(json.loads(answer.body)["release"])
                elif answer.body != b"first\nsecond\n":
                    faults.append((path, answer.body))
            except OSError as error:
                faults.append((path, repr(error)))
            time.sleep(0.02)

    threads = [threading.Thread(target=ask, args=(path,)) for path in ("/", "/stream")]
    for thread in threads:
        thread.start()
    try:
        release(site, environment={**VALUES[site]["gunicorn_app_environment"], "ANOTHER": "value"})
        after = front(site)["release"]
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert versions == {before, after}


# worker: a process that shares a directory with the web process, and commands around the migrations


def diary(host) -> list[str]:
    """What the commands of the site have written, a line each."""
    return host.check_output("cat /var/lib/worker/data/diary.txt").splitlines()


def done_job(page, name: str) -> str:
    """What the worker has made of a job that the web process got."""
    page("worker", f"/jobs/{name}", method="POST", body=name.encode())
    for _ in range(50):
        if text := page("worker", f"/jobs/{name}").decode():
            return text
        time.sleep(0.2)
    raise AssertionError(f"nobody took the job {name}")


def test_usual_names_are_in_the_environment(host):
    program = (
        "import os; print(os.environ['DATABASE_URL'], os.environ['ALLOWED_HOSTS'], os.environ['CSRF_TRUSTED_ORIGINS'])"
    )
    shown = host.check_output("worker-manage shell -c %s", program)
    assert "sqlite:////var/lib/worker/db.sqlite3 worker.test https://worker.test" in shown


def test_worker_takes_what_the_web_process_leaves_in_their_directory(host, page):
    assert done_job(page, "letter") == f"letter done by {live(host, 'worker')} mail"
    for name in ("data", "data/inbox", "data/done"):
        folder = host.file(f"/var/lib/worker/{name}")
        assert (folder.is_directory, folder.user) == (True, "worker"), name


def test_commands_run_around_the_migrations_and_once_where_asked(host, front, page):
    assert diary(host) == ["pre-migrate: no tables", "post-migrate: tables", "post-deploy: tables"]
    assert front("worker")["queues"] == ["mail"]
    before = front("worker")
    release("worker", environment={**VALUES["worker"]["gunicorn_app_environment"], "ANOTHER": "value"})
    assert diary(host)[3:] == ["pre-migrate: tables", "post-migrate: tables", "post-deploy: tables"]
    after = front("worker")
    assert after["queues"] == ["mail"] and after["visits"] > before["visits"]
    assert done_job(page, "parcel") == f"parcel done by {after['release']} mail"


# prebuilt: an archive of the controller with built static files


def test_built_static_files_are_served_as_they_were_committed(host, page):
    path = page("prebuilt").decode()
    dist = FIXTURES / "prebuilt_site" / "frontend" / "dist"
    assert page("prebuilt", path) == (dist / Path(path).name).read_bytes()
    assert host.check_output("cd /srv/prebuilt/static && find . -type f | sort").split() == [
        f"./{file.name}" for file in sorted(dist.iterdir())
    ]


def test_collectstatic_would_have_stopped_that_release(host, page):
    before = live(host, "prebuilt")
    done, output = deploy("prebuilt", collectstatic_enabled=True)
    assert not done
    assert "stopped at collectstatic: ValueError: The file 'picture-that-nobody-built.png' could not be found" in output
    assert live(host, "prebuilt") == before
    assert page("prebuilt")


def test_directory_around_an_archive_is_left_out(host):
    assert host.file("/srv/prebuilt/live/source/manage.py").is_file
    assert host.file("/srv/indexed/live/source/manage.py").is_file


# indexed: an archive from a URL, with requirements that name an index


def test_index_of_the_values_wins_over_the_one_in_the_requirements(host, page):
    assert "index.invalid" in host.file("/srv/indexed/live/source/requirements.txt").content_string
    assert page("indexed") == b"Django 5.2.5 serves indexed.test"


def test_index_of_the_requirements_would_have_stopped_that_release(host):
    done, output = deploy("indexed", index_url="")
    assert not done
    assert "stopped at requirements: " in output and "index.invalid" in output, output


def test_archive_that_is_not_the_one_of_the_checksum_is_refused(host, page):
    before = live(host, "indexed")
    wrong = f"sha256:{hashlib.sha256(b'another archive').hexdigest()}"
    source = {**VALUES["indexed"]["gunicorn_app_source"], "checksum": wrong}
    done, output = deploy("indexed", source=source)
    assert not done
    assert hashlib.sha256((FOLDER / "indexed.zip").read_bytes()).hexdigest() in output, output
    assert live(host, "indexed") == before
    assert page("indexed")


# packaged: a package of the index, without a source


def test_package_is_served_with_the_files_of_the_values_alone_as_its_source(host, page):
    title, _, css = page("packaged").decode().strip().rpartition(" ")
    assert title == "a title of the values"
    assert page("packaged", css) == b"body { margin: 0 }\n"
    assert host.check_output("ls /srv/packaged/live/source") == "packaged.ini"


def test_command_of_a_package_manages_the_site(host):
    assert "packaged.settings" in host.check_output("packaged-manage diffsettings --all | grep SETTINGS_MODULE")
