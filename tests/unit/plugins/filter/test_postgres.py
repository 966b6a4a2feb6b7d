"""Sizes, values, settings and networks of PostgreSQL."""

import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.groundwork.django.plugins.filter import postgres


def megabytes(text):
    assert re.fullmatch(r"[0-9]+MB", text)
    return int(text[:-2])


def sizes(memory, cores=2, connections=100):
    return postgres.postgres_sizes(memory, cores, connections)


def test_a_quarter_of_the_memory_is_the_servers():
    assert sizes(4096)["shared_buffers"] == "1024MB"
    assert sizes(4096)["effective_cache_size"] == "2048MB"


@pytest.mark.parametrize("memory", [512, 961, 1987, 3915, 7941, 15999])
def test_memory_that_moves_a_little_changes_nothing(memory):
    assert sizes(memory) == sizes(memory - 12) == sizes(memory + 12)


@pytest.mark.parametrize("memory", [128, 512, 1024, 2048, 8192, 65536, 1048576])
@pytest.mark.parametrize("connections", [20, 100, 1000])
def test_sizes_stay_within_reason(memory, connections):
    result = sizes(memory, 4, connections)
    assert 64 <= megabytes(result["shared_buffers"]) <= 16384
    assert 4 <= megabytes(result["work_mem"]) <= 64
    assert 64 <= megabytes(result["maintenance_work_mem"]) <= 1024
    assert 128 <= megabytes(result["min_wal_size"]) < megabytes(result["max_wal_size"]) <= 4096


@pytest.mark.parametrize("cores", [1, 2, 4, 16, 64])
def test_parallel_workers_fit_the_cores(cores):
    result = sizes(4096, cores)
    assert result["max_worker_processes"] > result["max_parallel_workers"] >= result["max_parallel_workers_per_gather"]
    assert result["max_parallel_workers_per_gather"] <= cores


@pytest.mark.parametrize("arguments", [(0, 1, 1), ("much", 1, 1), (1024, None, 1)])
def test_sizes_of_nonsense(arguments):
    with pytest.raises(AnsibleFilterError):
        postgres.postgres_sizes(*arguments)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "on"),
        (False, "off"),
        (4, "4"),
        (1.5, "1.5"),
        ("64MB", "64MB"),
        ("-1", "-1"),
        ("", "''"),
        ("it's", "'it''s'"),
        ("back\\slash", "'back\\\\slash'"),
        ("a, b", "'a, b'"),
    ],
)
def test_values(value, written):
    assert postgres.postgres_value(value) == written


def test_a_value_cannot_bring_a_second_line():
    with pytest.raises(AnsibleFilterError):
        postgres.postgres_value("on\nfsync = off")


def test_settings_are_parted_by_when_they_are_read():
    settings = {"work_mem": "8MB", "wal_level": "logical", "pg_stat_statements.track": "all", "fsync": True}
    assert list(postgres.postgres_settings(settings, at_start=True)) == ["pg_stat_statements.track", "wal_level"]
    assert list(postgres.postgres_settings(settings, at_start=False)) == ["fsync", "work_mem"]


def test_a_name_that_is_none_is_refused():
    with pytest.raises(AnsibleFilterError, match="work mem"):
        postgres.postgres_settings({"work mem": 1}, at_start=False)


@pytest.mark.parametrize(
    ("network", "written"),
    [("192.0.2.7", "192.0.2.7/32"), ("192.0.2.0/24", "192.0.2.0/24"), ("2001:db8::/32", "2001:db8::/32"), ("", "")],
)
def test_networks(network, written):
    assert postgres.postgres_network(network) == written


def test_words_of_pg_hba_keep_their_meaning_and_names_are_quoted():
    assert postgres.postgres_hba_word("all") == "all"
    assert postgres.postgres_hba_word("forge") == '"forge"'
    with pytest.raises(AnsibleFilterError):
        postgres.postgres_hba_word('a" peer\nlocal all')
