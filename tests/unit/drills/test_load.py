"""The load generator: what it counts, and from when."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from load import Load, Result, Sample
from traffic import MIXES, Kind, turns

DRILLS = Path(__file__).resolve().parents[2] / "drills"
BODY = b"a body" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


def load_of(site, *kinds: Kind, rate: float = 100, **options) -> Load:
    """A load on the test's site."""
    options = {"address": "127.0.0.1", "root": site.root, "timeout": 5, **options}
    return Load(f"https://site.test:{site.port}", kinds, rate=rate, **options)


def results_of(site, *kinds: Kind, requests: int = 10, rate: float = 100, **options) -> Result:
    """What became of so many requests."""
    with load_of(site, *kinds, rate=rate, seconds=requests / rate, **options) as load:
        return load.wait()


def one_at_a_time(site, path: str, method: str = "GET", **options) -> Result:
    """What became of ten requests that share one place, so that the server's counts do not depend on time."""
    return results_of(site, Kind("it", path, method), connections=1, **options)


def reasons(result: Result) -> dict[str, int]:
    """How often each failure occurs."""
    return dict(collections.Counter(sample.failure for sample in result.failed))


def test_every_request_of_a_mix_is_made_and_counted(site):
    kinds = (
        Kind("get", "/", weight=6, contains=f"site.test:{site.port}".encode()),
        Kind("chunked", "/chunked", weight=1),
        Kind("post", "/", "POST", BODY, contains=DIGEST, weight=2),
        Kind("new", "/", "POST", BODY, contains=b" https://site.test:", weight=1, new_connection=True),
    )
    result = results_of(site, *kinds, requests=50, connections=1)
    assert result.failed == []
    assert {name: len(result.of(name).samples) for name in ("get", "chunked", "post", "new")} == {
        "get": 30,
        "chunked": 5,
        "post": 10,
        "new": 5,
    }
    assert len(site.requests) == 50
    assert site.connections == 1 + 5
    assert result.retried == 0
    assert [round(sample.at, 6) for sample in result.samples] == [number / 100 for number in range(50)]


def test_the_rate_does_not_depend_on_how_slow_the_answers_are(site):
    result = results_of(site, Kind("slow", "/slow", own_seconds=0.3), requests=20)
    assert result.failed == []
    # Twenty answers of 0.3 s in 0.2 s: many are under way, and what they take on purpose is not counted.
    assert result.seconds < 1
    assert 0 <= result.percentile(0) < 0.3


def test_an_answer_that_was_not_expected_is_a_failure(site):
    kinds = (
        Kind("broken", "/broken"),
        Kind("meant", "/broken", statuses=(500,)),
        Kind("other", "/", contains=b"another site"),
    )
    result = results_of(site, *kinds, requests=30)
    assert reasons(result.of("broken")) == {"status 500": 10}
    assert reasons(result.of("other")) == {"an answer without 'another site'": 10}
    assert len(result.failed) == 20


def test_an_idle_connection_that_was_closed_is_replaced_without_a_word(site):
    result = one_at_a_time(site, "/idle", requests=2, rate=4)
    assert (result.failed, result.retried, site.connections) == ([], 0, 2)


def test_a_get_on_a_connection_that_closes_meanwhile_is_sent_once_more(site):
    result = one_at_a_time(site, "/stale")
    assert (result.failed, result.retried) == ([], 9)
    assert len(site.requests) == 10 + 9


def test_a_post_on_a_connection_that_closes_meanwhile_fails_and_is_not_sent_again(site):
    result = one_at_a_time(site, "/stale", "POST")
    assert reasons(result) == {"kept-alive connection closed before the answer": 5}
    assert result.retried == 0
    assert len(site.requests) == 10


def test_an_answer_that_breaks_off_is_a_failure_even_of_a_get(site):
    expected = {
        "/reset": "closed in the middle of the answer",
        "/cut": "closed in the middle of the answer",
        "/nonsense": "broken answer",
    }
    result = results_of(site, *(Kind(path, path) for path in expected), requests=15, connections=1)
    assert (len(result.failed), result.retried, len(site.requests)) == (15, 0, 15)
    assert all(sample.failure.startswith(expected[sample.kind]) for sample in result.failed), reasons(result)


def test_a_request_that_is_never_answered_fails_after_its_time(site):
    result = results_of(site, Kind("silent", "/silent", own_seconds=0.1), timeout=0.2)
    assert reasons(result) == {"no answer in 0.3 s": 10}
    assert 0.2 <= max(sample.beyond for sample in result.samples) < 2


def test_a_stall_shows_in_all_requests_that_were_due_in_it(site):
    with load_of(site, Kind("front", "/"), connections=4) as load:
        time.sleep(0.2)
        begin = time.monotonic()
        end = site.stalled_until = begin + 0.65
        time.sleep(0.75)
        result = load.stop()
    assert result.failed == []
    stalled = result.between(begin + 0.05, end)
    assert 59 <= len(stalled.samples) <= 61
    # Only four could be under way: the others waited for them, and that counts.
    assert all(sample.beyond >= end - (result.started + sample.at) for sample in stalled.samples)
    assert stalled.percentile(50) > 0.29
    assert result.between(result.started, begin - 0.05).percentile(50) < 0.15
    assert len(result.beyond(0.3)) >= 29


def test_stop_ends_the_stream_and_waits_for_what_is_under_way(site):
    with load_of(site, Kind("slow", "/slow", own_seconds=0.3)) as load:
        time.sleep(0.2)
        result = load.stop()
    assert result.failed == []
    assert 10 <= len(result.samples) == len(site.requests) < 60
    assert 60 < result.rate <= 101


def test_only_the_given_authority_is_trusted_and_only_for_the_name(site):
    result = results_of(site, Kind("front", "/"), root=site.stranger)
    assert reasons(result) == {"certificate refused: self-signed certificate": 10}
    with Load(
        f"https://other.test:{site.port}",
        [Kind("front", "/")],
        rate=10,
        seconds=0.2,
        address="127.0.0.1",
        root=site.root,
    ) as load:
        result = load.wait()
    assert len(result.failed) == 2
    assert "other.test" in result.failed[0].failure
    assert site.requests == []


def test_a_site_that_is_not_there_is_a_failure_of_each_request(site):
    with Load("https://127.0.0.1:1", [Kind("front", "/")], rate=50, seconds=0.2, root=site.root) as load:
        result = load.wait()
    assert len(result.failed) == 10
    assert all("no connection" in sample.failure for sample in result.failed)


def test_percentiles_are_of_good_answers_and_an_empty_slice_has_none():
    samples = [Sample(number, "a", beyond=number / 100) for number in range(1, 101)]
    samples.append(Sample(200, "b", beyond=30, failure="status 502"))
    result = Result(1000.0, 202.0, samples, 0.1)
    assert [result.percentile(percent) for percent in (50, 95, 99, 100)] == [0.5, 0.95, 0.99, 1.0]
    assert math.isnan(result.of("b").percentile(99))
    assert [sample.at for sample in result.between(1010, 1012.5).samples] == [10, 11, 12]
    assert result.between(1010, 1012.5).seconds == 2.5
    assert [sample.kind for sample in result.beyond(0.995)] == ["a", "b"]
    assert "200.000 s    30.000 s  b  status 502" in result.table()


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_comes_by_weight_and_evenly_spread(mix):
    kinds = MIXES[mix]
    total = round(sum(kind.weight for kind in kinds))
    order = [kind.name for kind in itertools.islice(turns(kinds), 2 * total)]
    for kind in kinds:
        assert order[:total].count(kind.name) == order[total:].count(kind.name) == kind.weight
    assert total == 200


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://site.test", {}, "write https://"),
        ("https://site.test/page", {}, "the paths are the mix's"),
        ("https://site.test", {"rate": 0}, "above 0"),
        ("https://site.test", {"root": Path("/nowhere.pem")}, "'/nowhere.pem', which is no certificate"),
        ("https://site.test", {"root": Path(__file__)}, "test_load.py', which is no certificate"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(url, options, words):
    with pytest.raises(ValueError, match=words):
        Load(url, [Kind("front", "/")], **{"rate": 1, **options})


def test_kinds_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="same name"):
        Load("https://site.test", [Kind("front", "/"), Kind("front", "/other")], rate=1)


def test_the_command_prints_a_table_and_writes_every_request(site, tmp_path):
    lines = tmp_path / "requests.jsonl"
    command = [sys.executable, str(DRILLS / "load.py"), "--url", f"https://site.test:{site.port}"]
    command += ["--address", "127.0.0.1", "--root", str(site.root), "--mix", "loadable"]
    command += ["--rate", "200", "--seconds", "0.5", "--json", str(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    # The test's site has no page that names its release.
    assert done.returncode == 1, done.stderr
    assert "an answer without 'release'" in done.stdout
    assert done.stdout.splitlines()[1].split() == ["sent", "failed", "retried", "per", "s", "p50", "p95", "p99", "max"]
    samples = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(samples) == 100
    assert {sample["kind"] for sample in samples if sample["failure"]} == {"front", "front, new"}


def test_the_generator_ends_with_its_caller(site):
    load = load_of(site, Kind("front", "/"))
    load.start()
    load._pipe.close()
    assert load._process.wait(10) == 0
