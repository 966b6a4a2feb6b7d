"""The cache settings that a URL stands for."""

from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

# Of a few hundred bytes each. Django's own 300 would let visitors of the API push out who is blocked.
MEMORY_MAX_ENTRIES = 50_000


def from_url(url: str, prefix: str, timeout_milliseconds: int, pause_seconds: int) -> dict[str, Any]:
    """Return Django's settings for the cache behind a URL, for this process's own memory without one.

    The prefix begins each key. An answer that takes longer than the timeout is an error; after one, the cache is
    left alone for the pause. Raises ImproperlyConfigured for what is no Redis URL; the URL holds a password,
    so the message does not repeat it.
    """
    if not url:
        return {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": MEMORY_MAX_ENTRIES},
        }
    try:
        parts = urlsplit(url)
        parse_url(url)
        complete = bool(parts.path.strip("/") if parts.scheme == "unix" else parts.hostname)
    except ValueError:
        complete = False
    if not complete:
        raise ImproperlyConfigured(
            "REDIS_URL is not a Redis URL: write redis://user:password@host:6379/0 with the password percent-encoded, "
            "or unix://user:password@/run/redis/redis.sock?db=0 for a unix socket."
        )
    return {
        "BACKEND": "config.forgiving_cache.ForgivingRedisCache",
        "LOCATION": [url],
        "KEY_PREFIX": prefix,
        "OPTIONS": {
            "pause_seconds": pause_seconds,
            "socket_timeout": timeout_milliseconds / 1000,
            "socket_connect_timeout": timeout_milliseconds / 1000,
            # Once more at once, because a server that was restarted has closed the connections that were kept.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        },
    }
