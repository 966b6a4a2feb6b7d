"""Static files that are compressed once, and not anew with each release."""

import filecmp
import shutil
from pathlib import Path

from django.conf import settings
from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage


class SparingCompressor(Compressor):
    """Takes the compressed forms of a file from STATIC_PUBLISHED, if the same file is there."""

    def compress(self, path: str) -> list[str]:
        """Return the paths of the compressed forms that are beside the file now."""
        published = Path(settings.STATIC_PUBLISHED, Path(path).relative_to(settings.STATIC_ROOT))
        found = [form for suffix in (".br", ".gz") if (form := published.with_name(published.name + suffix)).is_file()]
        if not found or not published.is_file() or not filecmp.cmp(path, published, shallow=False):
            return super().compress(path)
        return [shutil.copy2(form, path + form.suffix) for form in found]


class SparingStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Names with hashes and compressed neighbours, where STATIC_PUBLISHED may have some of earlier releases."""

    def create_compressor(self, **options: object) -> Compressor:
        return (SparingCompressor if settings.STATIC_PUBLISHED else Compressor)(**options)
