"""A Redis cache that is never the reason for a failed page."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from django_prometheus.cache.metrics import (
    django_cache_get_fail_total,
    django_cache_get_total,
    django_cache_hits_total,
    django_cache_misses_total,
)
from redis.exceptions import RedisError

LABEL = "redis"
UNTOLD_MAX_KEYS = 100_000
FAILED, MISSING = object(), object()

logger = logging.getLogger(__name__)


class Outage:
    """What the threads of this process know of a server that did not answer."""

    def __init__(self) -> None:
        self.ends = 0.0
        self.untold: set[str] = set()


class ForgivingClient(RedisCacheClient):
    """A client for which a cache that fails is an empty cache.

    What a change during an outage was about is deleted as soon as the server answers again. Else a server that was
    only out of reach would bring back what had been deleted, such as the session of somebody who signed out.
    """

    outages: defaultdict[str, Outage] = defaultdict(Outage)

    def __init__(self, servers: list[str], pause_seconds: int, **options: Any) -> None:
        super().__init__(servers, **options)
        self._pause_seconds = pause_seconds
        self._outage = self.outages[servers[0]]

    def _ask(self, otherwise: Any, changed: Iterable[str], operation: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the operation returns, and `otherwise` while the server does not answer."""
        outage = self._outage
        if time.monotonic() >= outage.ends:
            try:
                if outage.untold:
                    untold = set(outage.untold)
                    super().delete_many(untold)
                    outage.untold -= untold
                return operation(*arguments)
            except RedisError as error:
                outage.ends = time.monotonic() + self._pause_seconds
                logger.warning("the cache does not answer, pages go on without it: %s", error)
        if len(outage.untold) < UNTOLD_MAX_KEYS:
            outage.untold.update(changed)
        return otherwise

    def get(self, key: str, default: Any) -> Any:
        django_cache_get_total.labels(backend=LABEL).inc()
        value = self._ask(FAILED, (), super().get, key, MISSING)
        if value is FAILED:
            django_cache_get_fail_total.labels(backend=LABEL).inc()
        elif value is MISSING:
            django_cache_misses_total.labels(backend=LABEL).inc()
        else:
            django_cache_hits_total.labels(backend=LABEL).inc()
            return value
        return default

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        return self._ask({}, (), super().get_many, keys)

    def has_key(self, key: str) -> bool:
        return self._ask(False, (), super().has_key, key)

    def add(self, key: str, value: Any, timeout: int | None) -> bool:
        return self._ask(True, (key,), super().add, key, value, timeout)

    def set(self, key: str, value: Any, timeout: int | None) -> None:
        self._ask(None, (key,), super().set, key, value, timeout)

    def set_many(self, data: dict[str, Any], timeout: int | None) -> None:
        self._ask(None, data, super().set_many, data, timeout)

    def touch(self, key: str, timeout: int | None) -> bool:
        return self._ask(False, (), super().touch, key, timeout)

    def incr(self, key: str, delta: int) -> int:
        return self._ask(delta, (key,), super().incr, key, delta)

    def delete(self, key: str) -> bool:
        return self._ask(False, (key,), super().delete, key)

    def delete_many(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._ask(None, keys, super().delete_many, keys)

    def clear(self) -> bool:
        return self._ask(False, (), super().clear)


class ForgivingRedisCache(RedisCache):
    """Django's Redis cache with the forgiving client."""

    def __init__(self, server: list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = ForgivingClient

    def ping(self) -> None:
        """Ask the server whether it answers. Raises RedisError when it does not."""
        self._cache.get_client(write=True).ping()
