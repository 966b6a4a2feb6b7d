import json
import shutil
from pathlib import Path


def hashed_names(static_files: Path) -> dict[str, str]:
    return json.loads((static_files / "staticfiles.json").read_text())["paths"]


def test_collectstatic_hashes_and_compresses(static_files):
    hashed = static_files / hashed_names(static_files)["forge/forge.css"]
    assert hashed.name != "forge.css"
    assert hashed.is_file()
    for suffix in (".gz", ".br"):
        compressed = hashed.with_name(hashed.name + suffix)
        assert 0 < compressed.stat().st_size < hashed.stat().st_size / 2


def test_pages_ask_for_the_hashed_files(manage, ready_production, static_files):
    stylesheet = f"/static/{hashed_names(static_files)['forge/forge.css']}"
    script = (
        "from django.test import Client;"
        "ask = lambda path, **more: Client().get(path, headers={'host': 'forge.example.org', **more});"
        "https = {'x-forwarded-proto': 'https'};"
        "import json;"
        "page = ask('/', **https);"
        "plain = ask('/');"
        f"css = ask('{stylesheet}', **https);"
        "print(json.dumps([page.text, dict(page.headers), plain.status_code, plain.headers['Location'],"
        " css.status_code, dict(css.headers)]))"
    )
    result = manage("shell", "--no-imports", "-c", script, SECURE_HSTS_SECONDS="3600", **ready_production)
    page, headers, plain_status, location, css_status, css_headers = json.loads(result.stdout.splitlines()[-1])
    assert stylesheet in page
    assert headers["Strict-Transport-Security"] == "max-age=3600"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (plain_status, location) == (301, "https://forge.example.org/")
    assert css_status == 200
    assert "immutable" in css_headers["Cache-Control"]


def test_what_was_published_is_not_compressed_again(manage, ready_production, static_files, tmp_path):
    published, fresh = tmp_path / "published", tmp_path / "fresh"
    shutil.copytree(static_files, published)
    hashed = hashed_names(static_files)["forge/forge.css"]
    (published / f"{hashed}.gz").write_bytes(b"compressed by an earlier release")
    changed = hashed_names(static_files)["admin/css/base.css"]
    (published / changed).write_text("another content")
    (published / f"{changed}.gz").write_bytes(b"of another content")
    environment = {**ready_production, "STATIC_ROOT": str(fresh), "STATIC_PUBLISHED": str(published)}
    result = manage("collectstatic", "--noinput", "--verbosity=0", **environment)
    assert result.returncode == 0, result.stderr
    assert (fresh / f"{hashed}.gz").read_bytes() == b"compressed by an earlier release"
    assert (fresh / f"{changed}.gz").read_bytes() == (static_files / f"{changed}.gz").read_bytes()
    assert {path.name for path in fresh.rglob("*.br")} == {path.name for path in static_files.rglob("*.br")}
