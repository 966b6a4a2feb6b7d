import re

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env


def test_text_strips_blanks(monkeypatch):
    monkeypatch.setenv("NAME", "  value ")
    assert env.text("NAME") == "value"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_text_that_is_not_set_falls_back_or_is_named(monkeypatch, value):
    monkeypatch.delenv("NAME", raising=False)
    if value is not None:
        monkeypatch.setenv("NAME", value)
    assert env.text("NAME", "other") == "other"
    with pytest.raises(ImproperlyConfigured, match=r"^NAME is not set: give it a value"):
        env.text("NAME")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False), ("", True)],
)
def test_boolean(monkeypatch, value, expected):
    monkeypatch.setenv("NAME", value)
    assert env.boolean("NAME", default=True) is expected


@pytest.mark.parametrize("value", ["yes", "on", "2", "truee", "none"])
def test_wrong_boolean_is_one_sentence_with_name_value_and_remedy(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured) as error:
        env.boolean("NAME", default=False)
    assert str(error.value) == f"NAME is {value!r}, which is not a boolean: set it to true or false."


def test_integer(monkeypatch):
    monkeypatch.delenv("NAME", raising=False)
    assert env.integer("NAME", 60) == 60
    monkeypatch.setenv("NAME", "5")
    assert env.integer("NAME", 60) == 5


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("ten", "whole number"),
        ("1.5", "whole number"),
        ("1_0", "whole number"),
        ("9" * 5000, "whole number"),
        ("-1", "too small"),
        ("2147483648", "too large: set it to 2147483647 or less"),
        ("99999999999999", "too large"),
    ],
)
def test_wrong_integer(monkeypatch, value, reason):
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match=reason) as error:
        env.integer("NAME", 60)
    assert len(str(error.value)) < 200


def test_comma_list(monkeypatch):
    monkeypatch.setenv("NAME", " a.example , b.example,")
    assert env.comma_list("NAME") == ["a.example", "b.example"]
    monkeypatch.setenv("NAME", "")
    assert env.comma_list("NAME", []) == []
    with pytest.raises(ImproperlyConfigured, match="NAME is not set"):
        env.comma_list("NAME")
    monkeypatch.setenv("NAME", " , ")
    with pytest.raises(ImproperlyConfigured, match="NAME has no entry"):
        env.comma_list("NAME")


@pytest.mark.parametrize("value", ["*", "forge.example.org,.example.org", "127.0.0.1", "[::1]"])
def test_hosts(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    assert env.hosts("NAME") == value.split(",")


@pytest.mark.parametrize(
    "value", ["https://forge.test", "forge.test:8000", "forge.test/", "a b", "*.forge.test", "::1"]
)
def test_wrong_host(monkeypatch, value):
    monkeypatch.setenv("NAME", f"forge.example.org,{value}")
    with pytest.raises(
        ImproperlyConfigured, match=rf"^NAME is '{re.escape(value)}', which is no host: write names such"
    ):
        env.hosts("NAME")


@pytest.mark.parametrize(
    "value", ["https://forge.example.org", "https://*.example.org", "http://localhost:8000,http://[::1]:8000"]
)
def test_origins(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    assert env.origins("NAME") == value.split(",")


@pytest.mark.parametrize("value", ["forge.test", "https://forge.test/", "ftp://forge.test", "*", "https://"])
def test_wrong_origin(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match=rf"^NAME is '{re.escape(value)}', which is no origin: write https"):
        env.origins("NAME", [])


@pytest.mark.parametrize("value", ["", "/csp", "https://reports.example.org/csp?key=a%3Bb"])
def test_header_url(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    assert env.header_url("NAME", "") == value


@pytest.mark.parametrize(
    "value", ["https://x;script-src *", "https://x/;", "https://x/,y", "https://x/a b", "/a\x0bb", "x", "https://ü/"]
)
def test_wrong_header_url(monkeypatch, value):
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match=r"^NAME is '.*', which is no URL for a header: write one"):
        env.header_url("NAME", "")


def test_path(monkeypatch):
    monkeypatch.delenv("NAME", raising=False)
    assert env.path("NAME", "") == ""
    monkeypatch.setenv("NAME", f"/srv/{'a' * 255}")
    assert env.path("NAME") == f"/srv/{'a' * 255}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [("rel", "not absolute"), ("/srv/" + "a" * 256, "longer than a path"), ("/" + "a/" * 3000, "longer than a path")],
)
def test_wrong_path(monkeypatch, value, reason):
    monkeypatch.setenv("NAME", value)
    with pytest.raises(ImproperlyConfigured, match=f"^NAME is '.*', which is {reason}") as error:
        env.path("NAME")
    assert len(str(error.value)) < 250


def test_choice(monkeypatch):
    monkeypatch.setenv("NAME", "red")
    assert env.choice("NAME", ("red", "blue"), default="blue") == "red"
    monkeypatch.setenv("NAME", "green")
    with pytest.raises(ImproperlyConfigured, match="NAME is 'green', which is unknown: set it to one of red, blue"):
        env.choice("NAME", ("red", "blue"), default="blue")


@pytest.fixture
def no_secret(monkeypatch):
    monkeypatch.delenv("NAME", raising=False)
    monkeypatch.delenv("NAME_FILE", raising=False)


def test_secret_from_the_variable_or_the_file(monkeypatch, no_secret, tmp_path):
    assert env.secret("NAME", "other") == "other"
    monkeypatch.setenv("NAME", "s3cret")
    assert env.secret("NAME") == "s3cret"
    monkeypatch.delenv("NAME")
    file = tmp_path / "secret"
    file.write_text("from-file\n")
    monkeypatch.setenv("NAME_FILE", str(file))
    assert env.secret("NAME") == "from-file"


def test_secret_that_is_not_set_names_both_ways(no_secret):
    with pytest.raises(ImproperlyConfigured, match=r"^NAME is not set: set NAME, or NAME_FILE to a file"):
        env.secret("NAME")


def test_secret_set_twice_is_refused_without_showing_it(monkeypatch, no_secret):
    monkeypatch.setenv("NAME", "s3cret")
    monkeypatch.setenv("NAME_FILE", "/run/secret")
    with pytest.raises(ImproperlyConfigured, match="NAME and NAME_FILE are both set") as error:
        env.secret("NAME")
    assert "s3cret" not in str(error.value)


def test_secret_that_is_too_short_is_not_shown(monkeypatch, no_secret):
    monkeypatch.setenv("NAME", "s3cret")
    assert env.secret("NAME", min_length=6) == "s3cret"
    with pytest.raises(ImproperlyConfigured, match=r"^NAME is too short: give it 7 characters or more\.$"):
        env.secret("NAME", min_length=7)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8 text")]
)
def test_secret_file_that_is_of_no_use(monkeypatch, no_secret, tmp_path, content, reason):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("NAME_FILE", str(file))
    with pytest.raises(ImproperlyConfigured, match=reason):
        env.secret("NAME")
