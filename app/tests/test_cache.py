import logging
import time

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured

from config import forgiving_cache
from config.cache import from_url

# What a page may ask of the cache, and what an empty cache answers.
QUESTIONS = [
    (lambda: cache.get("key"), None),
    (lambda: cache.get("key", "default"), "default"),
    (lambda: cache.get_many(["key", "other"]), {}),
    (lambda: cache.has_key("key"), False),
    (lambda: cache.set("key", 1), None),
    (lambda: cache.set_many({"key": 1}), []),
    (lambda: cache.add("key", 1), True),
    (lambda: cache.touch("key"), False),
    (lambda: cache.incr("key"), 1),
    (lambda: cache.delete("key"), False),
    (lambda: cache.delete_many(["key"]), None),
    (lambda: cache.clear(), False),
    (lambda: cache.get_or_set("key", 7), 7),
]


def test_without_a_url_it_is_the_memory_of_the_process():
    assert from_url("", "forge", 250, 5)["BACKEND"] == "django.core.cache.backends.locmem.LocMemCache"


@pytest.mark.parametrize(
    "url",
    ["redis", "http://cache/0", "redis://", "redis:///0", "unix://", "unix://forge:s3cret@", "redis://c:s3cret/0"],
)
def test_wrong_url_is_one_sentence_without_the_password(url):
    with pytest.raises(ImproperlyConfigured, match=r"^REDIS_URL is not a Redis URL: write redis://") as error:
        from_url(url, "forge", 250, 5)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache.example.org",
        "redis://forge:p%40ss@cache.example.org:6380/1",
        "rediss://cache.example.org/0",
        "unix://forge:pass@/run/redis/forge.sock?db=0",
    ],
)
def test_urls_that_are_understood(url):
    assert from_url(url, "forge", 250, 5)["LOCATION"] == [url]


def test_values_come_back(with_redis):
    cache.set("key", {"a": [1, "x"]}, 60)
    assert cache.get("key") == {"a": [1, "x"]}
    assert cache.has_key("key")
    assert cache.get_many(["key", "missing"]) == {"key": {"a": [1, "x"]}}
    assert not cache.add("key", 2)
    cache.set_many({"one": 1, "two": 2})
    assert cache.incr("one") == 2
    assert cache.touch("one", 60)
    cache.delete_many(["one", "two"])
    assert cache.get("one") is None
    assert cache.delete("key")
    cache.set("nothing", None)
    assert cache.get("nothing", "default") is None
    with pytest.raises(ValueError, match="not found"):
        cache.incr("missing")


@pytest.mark.parametrize(("question", "answer"), QUESTIONS)
def test_dead_cache_is_an_empty_cache(with_redis, question, answer):
    cache.set("key", 5)
    with_redis.die()
    assert question() == answer


def test_cache_that_hangs_costs_its_timeout_and_then_nothing(with_redis, settings, caplog):
    settings.CACHES = {"default": from_url(with_redis.url, "test", timeout_milliseconds=200, pause_seconds=60)}
    cache.set("key", 5)
    with_redis.hang()
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert cache.get("key") is None
    first = time.monotonic() - start
    for _ in range(100):
        cache.get("key")
    rest = time.monotonic() - start - first
    forgiving_cache.ForgivingClient.outages.clear()
    assert 0.15 < first < 1
    assert rest < 0.1
    assert caplog.text.count("the cache does not answer, pages go on without it") == 1
    assert "tests:" not in caplog.text


def test_wrong_password_is_an_outage_too(with_redis, settings):
    user = with_redis.url.replace("unix://tests:", "unix://tests:not-")
    settings.CACHES = {"default": from_url(user, "test", timeout_milliseconds=200, pause_seconds=0)}
    assert cache.get("key", "default") == "default"


def test_restarted_server_is_used_at_once(with_redis):
    cache.set("key", 5)
    with_redis.die()
    with_redis.live()
    assert cache.get("key") == 5


def test_what_was_deleted_during_an_outage_does_not_come_back(with_redis):
    cache.set_many({"one": 1, "two": 2, "three": 3})
    with_redis.die()
    cache.delete("one")
    cache.set("two", "newer")
    with_redis.live()
    assert cache.get_many(["one", "two", "three"]) == {"three": 3}


def test_what_is_remembered_of_an_outage_has_an_end(with_redis, monkeypatch):
    monkeypatch.setattr(forgiving_cache, "UNTOLD_MAX_KEYS", 3)
    with_redis.die()
    for number in range(10):
        cache.set(f"key-{number}", number)
    assert len(forgiving_cache.ForgivingClient.outages[with_redis.url].untold) == 3


def test_production_uses_what_redis_url_says(manage, production, relay, tmp_path):
    secret = tmp_path / "redis-url"
    secret.write_text(relay.url)
    script = (
        "from django.core.cache import cache; cache.set('a', 1); cache.ping();"
        "from django.conf import settings;"
        "print(cache.get('a'), settings.SESSION_ENGINE, settings.CACHES['default']['KEY_PREFIX'])"
    )
    result = manage("shell", "--no-imports", "-c", script, REDIS_URL_FILE=str(secret), **production)
    assert result.stdout == "1 config.sessions.cached_db forge\n", result.stderr


def test_wrong_redis_url_stops_every_command_with_its_sentence(manage, production):
    result = manage("check", REDIS_URL="redis//cache", **production)
    assert result.returncode == 1
    assert result.stderr.startswith("forge: REDIS_URL is not a Redis URL: ")
