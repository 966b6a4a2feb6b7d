import sys

import pytest

from .servers import Handler, serve

BUCKET = {"S3_BUCKET": "uploads", "S3_REGION": "eu-central-1", "S3_PREFIX": "forge"}
KEYS = {"S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "hunter2"}


@pytest.fixture
def bucket():
    """A server that keeps what is put and gives it back: as much of S3 as an upload needs."""
    objects: dict[str, bytes] = {}

    class Bucket(Handler):
        def do_PUT(self):
            assert "Credential=id/" in self.headers["Authorization"]
            objects[self.path] = self.body()
            self.answer(200)

        def do_HEAD(self):
            self.answer(200 if self.path in objects else 404)

    with serve(Bucket) as address:
        yield f"http://{address}", objects


def test_uploads_go_to_the_bucket(manage, production, bucket, tmp_path):
    url, objects = bucket
    secret = tmp_path / "secret"
    secret.write_text(KEYS["S3_SECRET_ACCESS_KEY"])
    script = (
        "from django.core.files.storage import default_storage as s; from django.core.files.base import ContentFile;"
        "name = s.save('notes.md', ContentFile(b'hello')); print(name, s.url(name));"
        "print(s.save('notes.md', ContentFile(b'other')));"
        "from health.checks import check_media; print(check_media().status)"
    )
    environment = {
        **production,
        **BUCKET,
        "S3_ENDPOINT_URL": url,
        "S3_ACCESS_KEY_ID": "id",
        "S3_SECRET_ACCESS_KEY_FILE": str(secret),
        "MEDIA_ROOT": "/nowhere/media",
    }
    result = manage("shell", "--no-imports", "-c", script, **environment)
    assert result.returncode == 0, result.stderr
    first, second, health = result.stdout.splitlines()
    assert first.startswith(f"notes.md {url}/uploads/forge/notes.md?")
    assert "X-Amz-Expires=3600" in first
    assert second != "notes.md"
    assert health == "ok"
    assert b"hello" in objects["/uploads/forge/notes.md"]
    assert len(objects) == 2


@pytest.mark.parametrize("missing", ["boto3", "storages"])
def test_missing_package_is_one_sentence(monkeypatch, missing):
    from django.core.exceptions import ImproperlyConfigured

    from config import storage

    monkeypatch.setenv("S3_BUCKET", "uploads")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImproperlyConfigured) as error:
        storage.media()
    assert str(error.value) == (
        f"S3_BUCKET is 'uploads', but the package {missing} is missing: install requirements-s3.txt."
    )


def test_half_a_pair_of_keys_is_one_sentence(manage, production):
    result = manage("check", S3_ACCESS_KEY_ID="id", **BUCKET, **production)
    assert result.returncode == 1
    assert result.stderr.startswith("forge: S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY belong together: ")


def test_deployment_check_has_no_warning_with_everything_set(manage, production):
    everything = {
        "REDIS_URL": "unix://forge:pass@/run/redis/forge.sock?db=0",
        "SENTRY_DSN": "https://key@sentry.example.org/1",
        "CSP_REPORT_URI": "/reports",
    }
    result = manage("check", "--deploy", "--fail-level", "WARNING", **production, **BUCKET, **KEYS, **everything)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout
