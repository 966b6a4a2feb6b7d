import io
import json

import pytest
from django.test import Client
from django.test.client import ClientHandler

from config.bad_requests import without_odd_charsets

ODD = ["hex", "zlib", "bz2", "undefined", "punycode", "rot13", "base64", "uu", "idna", "utf-16", "no-such-charset"]
KNOWN = ["utf-8", "UTF8", '"utf-8"', "us-ascii", "ISO-8859-1", "latin-1"]
MULTIPART = b'--b\r\nContent-Disposition: form-data; name="username"\r\n\r\nbob\r\n--b--\r\n'


def ask(path: str, content_type: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    """Ask as the server does, and return the status and the body."""
    environ = Client()._base_environ(
        PATH_INFO=path, QUERY_STRING="q=a", REQUEST_METHOD=method, CONTENT_TYPE=content_type
    )
    environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
    # The handler of tests leaves the connection to the database open.
    response = without_odd_charsets(lambda environ, start_response: ClientHandler()(environ))(environ, None)
    return response.status_code, response.content


def test_server_is_given_the_guarded_application(manage, ready_production):
    script = (
        "from django.test import Client; from config.wsgi import application;"
        "environ = Client()._base_environ(PATH_INFO='/livez', QUERY_STRING='q=a', CONTENT_TYPE='a/b; charset=hex');"
        "print(application(environ, lambda status, headers: None).content)"
    )
    result = manage("shell", "--no-imports", "-c", script, **ready_production)
    assert result.stdout == "b'ok'\n", result.stderr


@pytest.mark.parametrize("charset", ODD)
def test_odd_charset_is_a_bad_request(charset):
    status, body = ask("/api/templates/", f"text/plain; charset={charset}")
    assert (status, json.loads(body)) == (400, {"detail": "The request cannot be understood."})
    assert ask("/login/", f"multipart/form-data; boundary=b; charset={charset}", "POST", MULTIPART)[0] == 400
    assert ask("/livez", f"text/plain; charset={charset}") == (200, b"ok")


@pytest.mark.parametrize("content_type", ["text/plain; x*=undefined''a", "text/plain; x*=no-such-charset''a"])
def test_odd_charset_of_another_parameter_is_one_too(content_type):
    assert ask("/api/templates/", content_type)[0] == 400


@pytest.mark.parametrize("content_type", ["", "text/plain", *(f"text/plain; charset={name}" for name in KNOWN)])
def test_common_charsets_are_served(content_type):
    assert ask("/login/", content_type)[0] == 200


def test_other_requests_reach_the_site_as_they_are():
    seen = []
    without_odd_charsets(lambda environ, start_response: seen.append(dict(environ)))({"PATH_INFO": "/"}, None)
    assert seen == [{"PATH_INFO": "/"}]


@pytest.mark.django_db
def test_bad_request_is_logged_with_its_id(client, caplog):
    with caplog.at_level("INFO", "forge.access"):
        response = client.get("/?q=%00", headers={"x-request-id": "0123456789abcdef"})
    assert (response.status_code, response["X-Request-ID"]) == (400, "0123456789abcdef")
    assert "GET / 400" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path",
    [
        "/?q=%00",
        "/?%00=a",
        "/?page=1&q=a&q=b%00",
        "/api/templates/?q=%00",
        "/api/templates/%00/",
        "/templates/a%00b/",
        "/admin/%00/",
    ],
)
def test_nul_in_path_or_query_is_a_bad_request(client, path):
    assert client.get(path).status_code == 400


@pytest.mark.parametrize(
    "path", ["?workflow_phase__exact=%00", "?q=%00", "%00/change/", "1/change/?_changelist_filters=q%3D%00"]
)
def test_nul_in_the_admin_is_a_bad_request(admin_client, path):
    assert admin_client.get(f"/admin/forge/template/{path}").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize("form", [{"username": "a\0", "password": "x"}, {"\0": "x"}])
def test_nul_in_a_form_is_a_bad_request(client, form):
    assert client.post("/login/", form).status_code == 400


@pytest.mark.django_db
def test_nul_in_a_cookie_is_a_bad_request(client):
    assert client.get("/", headers={"cookie": r'sessionid="aaaaaaaa\000"'}).status_code == 400
