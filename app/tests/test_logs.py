import json
import logging
import sys

import pytest

from config import logs

FAIL_TO_SIGN_IN = (
    "from django.test import Client;"
    "Client().post('/login/', {'username': 'bob', 'password': 'x'}, REMOTE_ADDR='203.0.113.9',"
    " headers={'host': 'forge.example.org', 'x-forwarded-proto': 'https', 'x-request-id': 'abc-12345678'});"
    "import logging; logging.getLogger('forge').error('a\\nb')"
)
SECURITY_LINE = 'security event=login_failed ip=203.0.113.9 user="bob"'


def record(message: str, **extra) -> logging.LogRecord:
    return logging.LogRecord("forge", logging.INFO, __file__, 1, message, (), extra.get("exc_info"))


def test_record_is_one_line_of_json():
    line = logs.JsonFormatter().format(record("first\nsecond\u2028third"))
    assert line.splitlines() == [line]
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "forge", "first\nsecond\u2028third")
    assert entry["time"].endswith("+00:00")
    assert entry["request_id"] == "-"


def test_exception_stays_on_the_line():
    try:
        raise ValueError("broken")
    except ValueError:
        line = logs.JsonFormatter().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["exception"]


@pytest.mark.django_db
def test_request_id_of_the_proxy_is_kept(client):
    assert client.get("/", headers={"x-request-id": "0123456789abcdef"})["X-Request-ID"] == "0123456789abcdef"
    assert logs.request_id.get() == "-"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with blank 123", "line\nbreak123", 'quote"quote', "ünïcödé-1"]
)
def test_request_id_of_the_wrong_form_is_replaced(client, given):
    made = client.get("/", headers={"x-request-id": given})["X-Request-ID"]
    assert made != given
    assert len(made) == 32


@pytest.mark.django_db
def test_lines_of_a_request_bear_its_id(client, monkeypatch):
    lines = []
    handler = logging.Handler()
    handler.setFormatter(logs.JsonFormatter())
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(json.loads(handler.format(record))))
    monkeypatch.setattr(logging.getLogger("django"), "handlers", [handler])
    client.get("/missing", headers={"x-request-id": "0123456789abcdef"})
    assert {line["request_id"] for line in lines} == {"0123456789abcdef"}


def test_without_log_dir_everything_goes_to_stdout(manage, ready_production):
    result = manage("shell", "--no-imports", "-c", FAIL_TO_SIGN_IN, **ready_production)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines.count(SECURITY_LINE) == 1
    assert json.loads(lines[-1])["message"] == "a\nb"


def test_log_dir_gets_the_files_too(manage, ready_production, tmp_path):
    result = manage("shell", "--no-imports", "-c", FAIL_TO_SIGN_IN, LOG_DIR=str(tmp_path), **ready_production)
    assert SECURITY_LINE in result.stdout.splitlines()
    assert (tmp_path / "security.log").read_text() == SECURITY_LINE + "\n"
    entries = [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    event = next(entry for entry in entries if entry["logger"] == "forge.security")
    assert event["request_id"] == "abc-12345678"
    assert event["message"] == SECURITY_LINE
    assert entries[-1]["message"] == "a\nb"


def test_rotated_file_is_opened_again(tmp_path):
    import logging.config

    settings = logs.configuration("INFO", str(tmp_path))
    handler = logging.config.DictConfigurator(settings)
    handler.config["formatters"] = {
        name: handler.configure_formatter(value) for name, value in settings["formatters"].items()
    }
    file_handler = handler.configure_handler(settings["handlers"]["app.log"])
    file_handler.handle(record("one"))
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    file_handler.handle(record("two"))
    file_handler.close()
    assert "two" in (tmp_path / "app.log").read_text()


@pytest.mark.parametrize("directory", ["missing", "forge.sqlite3", "forge.sqlite3/below"])
def test_log_dir_that_cannot_be_written_costs_the_files_not_the_site(manage, ready_production, tmp_path, directory):
    script = (
        "from django.test import Client;"
        "get = lambda: Client().get('/login/', headers={'host': 'forge.example.org', 'x-forwarded-proto': 'https'});"
        "print(get().status_code, get().status_code)"
    )
    path = tmp_path / directory
    result = manage("shell", "--no-imports", "-c", script, LOG_DIR=str(path), **ready_production)
    lines = result.stdout.splitlines()
    assert lines[-1] == "200 200", result.stderr
    assert sum("GET /login/ 200" in line for line in lines) == 2
    (told,) = result.stderr.splitlines()
    assert told.startswith("log line lost: ")
    assert f"{path}/app.log" in told


def test_line_that_cannot_be_made_is_told_without_what_it_holds(manage, ready_production, tmp_path):
    script = "import logging; logging.getLogger('forge').error('%d of them', 'hunter2')"
    result = manage("shell", "--no-imports", "-c", script, LOG_DIR=str(tmp_path), **ready_production)
    told = result.stderr.splitlines()
    assert len(told) == 2
    assert all(line.startswith("log line lost: TypeError, ") and line.endswith("at <string>:1") for line in told), told
    assert "hunter2" not in result.stdout + result.stderr


def test_wrong_host_is_one_warning_without_a_traceback(manage, ready_production):
    script = "from django.test import Client; Client().get('/', headers={'host': 'other.example.org'})"
    result = manage("shell", "--no-imports", "-c", script, **ready_production)
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    (entry,) = [entry for entry in entries if entry["logger"] != "forge.access"]
    assert (entry["level"], entry["logger"]) == ("warning", "django.security.DisallowedHost")
    assert "other.example.org" in entry["message"]
    assert "exception" not in entry
