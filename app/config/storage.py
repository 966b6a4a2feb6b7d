"""Where uploads go: MEDIA_ROOT, or a bucket when one is named."""

from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from config import env


def media() -> dict[str, Any]:
    """Return the setting of the storage of uploads, read from the environment.

    Raises ImproperlyConfigured for half a pair of keys and where the packages for a bucket are missing.
    """
    bucket = env.text("S3_BUCKET", "")
    if not bucket:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    for package in ("boto3", "storages"):
        if find_spec(package) is None:
            raise ImproperlyConfigured(
                f"S3_BUCKET is {bucket!r}, but the package {package} is missing: install requirements-s3.txt."
            )
    key, secret = env.secret("S3_ACCESS_KEY_ID", ""), env.secret("S3_SECRET_ACCESS_KEY", "")
    if bool(key) != bool(secret):
        raise ImproperlyConfigured(
            "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY belong together: set both, or none to use the machine's role."
        )
    options = {
        "bucket_name": bucket,
        "endpoint_url": env.text("S3_ENDPOINT_URL", ""),
        "region_name": env.text("S3_REGION", ""),
        "location": env.text("S3_PREFIX", ""),
        "access_key": key,
        "secret_key": secret,
    }
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            **{name: value for name, value in options.items() if value},
            # As on a disk: a second upload of a name gets a name of its own.
            "file_overwrite": False,
            "querystring_expire": env.integer("S3_URL_SECONDS", 3600, minimum=1),
            "signature_version": "s3v4",
        },
    }
