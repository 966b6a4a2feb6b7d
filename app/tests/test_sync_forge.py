"""sync_templates reads a git forge over HTTP, here a real server that behaves well or badly on demand."""

import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError

from forge.models import RemoteFile, Source, Template
from forge.sync import documents, remote

from .test_sync_directory import HEAD, sync

TOKEN = "t0ken-that-nobody-sees"
ROOT = "/me/prompts/main/"

pytestmark = pytest.mark.django_db

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Serves the given files with ETags; `instead` holds other answers, used up one by one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.instead: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, int, str, str]] = []
        self.stop_stalling = threading.Event()

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.removeprefix(ROOT)
        answers = self.server.instead.get(path)
        if answers:
            answers.pop(0)(self)
            return
        data = self.server.files.get(path)
        etag = f'"{hash(data)}"'
        if data is None:
            self.answer(404)
        elif self.headers.get("If-None-Match") == etag:
            self.answer(304, ETag=etag)
        else:
            self.answer(200, data, ETag=etag)

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.server.requests.append(
            (self.path.removeprefix(ROOT), status, self.headers.get("If-None-Match", ""), self.headers["Authorization"])
        )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args) -> None:
        pass


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.answer(code, b"x", **headers)


def stall(handler: Handler) -> None:
    handler.server.stop_stalling.wait(20)


def stall_in_the_middle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"---\n")
    handler.server.stop_stalling.wait(20)


def drip(handler: Handler) -> None:
    """Send a byte now and then, fast enough for every read timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stop_stalling.wait(0.05):
        handler.wfile.write(b"x")


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def hang_up_in_the_middle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"---\n")
    handler.close_connection = True


def too_large(handler: Handler) -> None:
    handler.answer(200, b"x" * (documents.FILE_MAX_BYTES + 1))


@pytest.fixture
def forge(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(remote, "READ_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(remote, "FILE_TIMEOUT_SECONDS", 0.5)
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/{{repository}}/{{ref}}/{{path}}"
    for name, value in {"BASE_URL": base, "REPOSITORY": "me/prompts", "TOKEN": TOKEN}.items():
        monkeypatch.setenv(f"FORGE_SYNC_{name}", value)
    server.files = {
        "templates.txt": b"# what there is\na.md\n\nplan/b.md\n",
        "a.md": HEAD.format(title="A", body="Hello").encode(),
        "plan/b.md": HEAD.format(title="B", body="World").encode(),
    }
    yield server
    server.stop_stalling.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def loaded(forge):
    """A forge that has been read once."""
    sync()
    forge.requests.clear()
    return forge


def failure(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        sync(*arguments)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return str(error.value)


def state() -> list:
    return list(Template.objects.order_by("pk").values_list("slug", "title", "body", "active", "updated"))


def test_listed_files_become_templates(forge):
    assert sync().splitlines()[-1] == "2 created, 0 updated, 0 unchanged, 0 deactivated, 0 kept."
    assert set(Template.objects.filter(source=Source.GIT).values_list("slug", "body")) == {
        ("a", "Hello\n"),
        ("b", "World\n"),
    }
    assert {authorization for *_, authorization in forge.requests} == {f"Bearer {TOKEN}"}


def test_what_has_not_changed_is_not_sent_again(loaded):
    loaded.files["a.md"] = HEAD.format(title="A", body="Changed").encode()
    assert sync() == "updated a\n0 created, 1 updated, 1 unchanged, 0 deactivated, 0 kept.\n"
    assert [(path, code) for path, code, *_ in loaded.requests] == [
        ("templates.txt", 304),
        ("a.md", 200),
        ("plan/b.md", 304),
    ]
    assert RemoteFile.objects.count() == 3
    assert str(RemoteFile.objects.get(url__endswith="a.md")).endswith("/me/prompts/main/a.md")


def test_local_edit_gives_way_although_nothing_changed_there(loaded):
    template = Template.objects.get(slug="a")
    template.body = "Edited here"
    template.save()
    assert "updated a\n" in sync()
    template.refresh_from_db()
    assert template.body == "Hello\n"
    assert [version.body for version in template.versions.all()] == ["Hello\n", "Edited here", "Hello\n"]


def test_file_without_an_etag_is_read_each_time(forge):
    data = forge.files["a.md"]
    forge.instead["a.md"] = [lambda handler: handler.answer(200, data)] * 2
    sync()
    forge.requests.clear()
    assert "0 updated" in sync()
    assert ("a.md", 200, "") in [request[:3] for request in forge.requests]


def test_vanished_template_is_deactivated_and_forgotten(loaded):
    loaded.files["templates.txt"] = b"a.md\n"
    assert "deactivated b\n" in sync()
    assert not Template.objects.get(slug="b").active
    assert not RemoteFile.objects.filter(url__contains="b.md").exists()


def test_dry_run_remembers_nothing(forge):
    before = state()
    assert "Would be: 2 created" in sync("--dry-run")
    assert state() == before
    assert not RemoteFile.objects.exists()


@pytest.mark.parametrize(
    "answer", [status(500), status(503), status(429), stall, stall_in_the_middle, hang_up, hang_up_in_the_middle, drip]
)
def test_failure_that_passes_is_tried_again(forge, answer):
    forge.instead["a.md"] = [answer, answer]
    assert "2 created" in sync()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(500), "plan/b.md cannot be read after 3 tries: the forge answers 500."),
        (status(429, **{"Retry-After": "3600"}), "plan/b.md cannot be read after 3 tries: the forge answers 429."),
        (stall, "plan/b.md cannot be read after 3 tries: no answer in time."),
        (stall_in_the_middle, "plan/b.md cannot be read after 3 tries: no answer in time."),
        (drip, "plan/b.md cannot be read after 3 tries: no answer in time."),
        (hang_up, "plan/b.md cannot be read after 3 tries: the connection failed (ProtocolError)."),
        (hang_up_in_the_middle, "plan/b.md cannot be read after 3 tries: the connection failed ("),
        (status(401), "plan/b.md cannot be read: the forge answers 401: check FORGE_SYNC_TOKEN"),
        (status(403), "plan/b.md cannot be read: the forge answers 403: check FORGE_SYNC_TOKEN"),
        (status(404), "plan/b.md cannot be read: the forge answers 404: check FORGE_SYNC_BASE_URL, FORGE_SYNC_REPO"),
        (status(302, Location="/login"), "plan/b.md cannot be read: the forge answers 302: it points elsewhere"),
        (status(304), "plan/b.md cannot be read: the forge answers 304"),
        (status(204), "plan/b.md cannot be read: the forge answers 204"),
        (too_large, "plan/b.md has more than 500000 bytes"),
        (lambda handler: handler.answer(200, b"<html>"), "plan/b.md has no front matter"),
        (lambda handler: handler.answer(200, b"\xff"), "plan/b.md is not UTF-8"),
    ],
)
def test_failure_that_stays_is_one_sentence_and_changes_nothing(loaded, answer, reason):
    RemoteFile.objects.filter(url__contains="b.md").delete()
    loaded.files["a.md"] = HEAD.format(title="A", body="Never seen").encode()
    loaded.instead["plan/b.md"] = [answer] * 3
    before = state(), list(RemoteFile.objects.values_list())
    started = time.monotonic()
    assert failure().startswith(reason)
    assert time.monotonic() - started < 10
    assert (state(), list(RemoteFile.objects.values_list())) == before


def test_nobody_listens(forge, monkeypatch):
    monkeypatch.setenv("FORGE_SYNC_BASE_URL", "http://127.0.0.1:1/{repository}/{path}")
    assert failure() == "templates.txt cannot be read after 3 tries: the connection failed (NewConnectionError)."


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (b"", "templates.txt lists no template: nothing was changed"),
        (b"# nothing\n", "templates.txt lists no template: nothing was changed"),
        (b"../secret.md\n", "templates.txt lists '../secret.md'"),
        (b"/a.md\n", "templates.txt lists '/a.md'"),
        (b"a.html\n", "templates.txt lists 'a.html'"),
        (b"".join(b"%d.md\n" % number for number in range(1001)), "templates.txt lists 1001 templates"),
    ],
)
def test_wrong_index_changes_nothing(loaded, index, reason):
    loaded.files["templates.txt"] = index
    before = state()
    assert failure().startswith(reason)
    assert state() == before


def test_token_is_in_no_log_line(forge, caplog):
    caplog.set_level(logging.DEBUG)
    forge.instead["a.md"] = [status(500)]
    sync()
    assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(remote.from_environment())


def test_token_may_come_from_a_file(forge, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("other\n")
    monkeypatch.delenv("FORGE_SYNC_TOKEN")
    monkeypatch.setenv("FORGE_SYNC_TOKEN_FILE", str(tmp_path / "token"))
    sync()
    assert forge.requests[0][3] == "Bearer other"


def test_public_repository_needs_no_token(forge, monkeypatch):
    monkeypatch.delenv("FORGE_SYNC_TOKEN")
    sync()
    assert forge.requests[0][3] is None


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://raw.githubusercontent.com/{repository}/{ref}/{path}", "/me/my%20prompts/v1/a/b%23.md"),
        ("https://gitlab.com/{repository}/-/raw/{ref}/{path}", "/me/my%20prompts/-/raw/v1/a/b%23.md"),
        ("https://gitea.example/{repository}/raw/branch/{ref}/{path}", "/me/my%20prompts/raw/branch/v1/a/b%23.md"),
        (
            "https://gitlab.com/api/v4/projects/{repository_id}/repository/files/{path_id}/raw?ref={ref}",
            "/api/v4/projects/me%2Fmy%20prompts/repository/files/a%2Fb%23.md/raw?ref=v1",
        ),
    ],
)
def test_raw_urls_of_the_usual_forges(monkeypatch, base, url):
    monkeypatch.setenv("FORGE_SYNC_BASE_URL", base)
    monkeypatch.setenv("FORGE_SYNC_REPOSITORY", "me/my prompts")
    monkeypatch.setenv("FORGE_SYNC_REF", "v1")
    assert remote.from_environment().url("a/b#.md").endswith(url)


@pytest.mark.parametrize(
    "base",
    [
        "github.com/{path}",
        "https://forge.example/",
        "ftp://forge.example/{path}",
        "https://forge.example/{unknown}/{path}",
        "https://forge.example/{}/{path}",
        "https://forge.example/{path",
        "https://forge.example:port/{path}",
        f"https://user:{TOKEN}@forge.example/{{path}}",
        "https:///{path}",
    ],
)
def test_wrong_base_url_is_one_sentence_that_does_not_repeat_it(monkeypatch, base):
    monkeypatch.setenv("FORGE_SYNC_REPOSITORY", "me/prompts")
    monkeypatch.setenv("FORGE_SYNC_BASE_URL", base)
    with pytest.raises(ImproperlyConfigured) as error:
        sync()
    assert str(error.value).startswith("FORGE_SYNC_BASE_URL is no raw URL: ")
    assert TOKEN not in str(error.value)


def test_token_does_not_travel_in_the_clear(monkeypatch):
    monkeypatch.setenv("FORGE_SYNC_REPOSITORY", "me/prompts")
    monkeypatch.setenv("FORGE_SYNC_BASE_URL", "http://forge.example/{path}")
    assert remote.from_environment()
    monkeypatch.setenv("FORGE_SYNC_TOKEN", TOKEN)
    with pytest.raises(ImproperlyConfigured, match="plain http"):
        sync()


@pytest.mark.parametrize("token", ["p4ss w0rd", "p4ss\nw0rd", "pässw0rd"])
def test_token_that_no_header_can_carry_is_refused_without_showing_it(forge, monkeypatch, token):
    monkeypatch.setenv("FORGE_SYNC_TOKEN", token)
    with pytest.raises(ImproperlyConfigured) as error:
        sync()
    assert str(error.value).startswith("FORGE_SYNC_TOKEN holds")
    assert token not in str(error.value)


def test_base_url_is_needed(monkeypatch):
    monkeypatch.setenv("FORGE_SYNC_REPOSITORY", "me/prompts")
    with pytest.raises(ImproperlyConfigured, match="FORGE_SYNC_BASE_URL is not set"):
        sync()
