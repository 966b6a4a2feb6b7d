"""Which cluster the module works with, and where it stops."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import postgres
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import postgres_cluster


@pytest.fixture
def host(tmp_path):
    """Function that makes a cluster below a root directory; with databases, it has one of a user."""

    def make(version, databases=False):
        configuration = tmp_path / f"etc/postgresql/{version}/main"
        configuration.mkdir(parents=True)
        data = f"/var/lib/postgresql/{version}/main"
        (configuration / "postgresql.conf").write_text(f"# a comment\ndata_directory = '{data}'\t\t# here\n")
        base = tmp_path / data.lstrip("/") / "base"
        for number in (1, 4, 5, *([16384] if databases else [])):
            (base / str(number)).mkdir(parents=True)
        (base.parent / "PG_VERSION").write_text(f"{version}\n")
        return tmp_path

    make.root = tmp_path
    return make


def test_clusters_are_found_on_disk(host):
    host("15", databases=True)
    root = host("17")
    found = postgres.clusters(str(root))
    assert {version: cluster.has_databases for version, cluster in found.items()} == {"15": True, "17": False}


def test_a_database_in_a_tablespace_counts(host):
    root = host("17")
    (root / "var/lib/postgresql/17/main/pg_tblspc/16390").mkdir(parents=True)
    assert postgres.clusters(str(root))["17"].has_databases


def test_data_that_is_gone_counts_as_empty(host):
    configuration = host.root / "etc/postgresql/16/main"
    configuration.mkdir(parents=True)
    (configuration / "postgresql.conf").write_text("port = 5432\n")
    assert not postgres.clusters(str(host.root))["16"].has_databases


def test_versions_are_sorted_as_numbers(tmp_path):
    for version in ("17", "9.6", "15"):
        (tmp_path / f"usr/lib/postgresql/{version}/bin").mkdir(parents=True)
        (tmp_path / f"usr/lib/postgresql/{version}/bin/postgres").touch()
    assert postgres.installed_versions(str(tmp_path)) == ["9.6", "15", "17"]


@pytest.mark.parametrize(
    ("asked", "full", "empty", "installed", "chosen"),
    [
        ("", [], [], ["17"], "17"),
        ("", [], ["17"], ["17"], "17"),
        # A new version of the distribution beside the cluster in use changes nothing.
        ("", ["15"], [], ["15", "17"], "15"),
        ("", ["15"], ["17"], ["15", "17"], "15"),
        ("17", [], [], ["17"], "17"),
        ("17", [], ["17"], ["17"], "17"),
        # After pg_upgradecluster the old cluster is kept for a while.
        ("17", ["15", "17"], [], ["15", "17"], "17"),
    ],
)
def test_choice(host, asked, full, empty, installed, chosen):
    for version in full:
        host(version, databases=True)
    for version in empty:
        host(version)
    assert postgres_cluster.choose(asked, postgres.clusters(str(host.root)), installed) == chosen


@pytest.mark.parametrize("beside", [[], ["17"]])
def test_another_version_than_that_of_the_data_stops(host, beside):
    host("15", databases=True)
    for version in beside:
        host(version)
    with pytest.raises(Refusal, match=r'databases are in cluster 15/main.*"15".*pg_upgradecluster'):
        postgres_cluster.choose("17", postgres.clusters(str(host.root)), ["15", "17"])


def test_an_empty_cluster_of_another_version_stops(host):
    host("15")
    with pytest.raises(Refusal, match="pg_dropcluster --stop 15 main"):
        postgres_cluster.choose("17", postgres.clusters(str(host.root)), ["15", "17"])


def test_a_cluster_whose_data_is_missing_stops(host):
    root = host("15")
    (root / "var/lib/postgresql/15/main/PG_VERSION").unlink()
    with pytest.raises(Refusal, match=r"15/main has no data in .*not mounted"):
        postgres_cluster.choose("17", postgres.clusters(str(root)), ["15", "17"])


def test_two_clusters_with_databases_have_to_be_told_apart(host):
    host("15", databases=True)
    host("17", databases=True)
    with pytest.raises(Refusal, match=r"15/main and 17/main.*postgres_version"):
        postgres_cluster.choose("", postgres.clusters(str(host.root)), ["15", "17"])


def test_the_version_of_the_distribution(tmp_path):
    release = tmp_path / "os-release"
    release.write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    assert postgres_cluster.distribution_version(str(release)) == "16"
    release.write_text('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian"\n')
    assert postgres_cluster.distribution_version(str(release)) == "17"
    assert postgres_cluster.distribution_version(str(tmp_path / "none")) == ""


def test_what_an_interrupted_creation_left_is_put_aside(host):
    root = host("17")
    cluster = postgres.clusters(str(root))["17"]
    keeper = postgres_cluster.Keeper({}, check=False)
    keeper.put_aside(cluster)
    (left,) = (root / "var/lib/postgresql/17").iterdir()
    assert left.name.startswith("main.left-") and len(keeper.actions) == 1
    keeper.put_aside(cluster)
    assert len(keeper.actions) == 1


def test_data_without_a_configuration_stops(host):
    root = host("17", databases=True)
    keeper = postgres_cluster.Keeper({}, check=False)
    with pytest.raises(Refusal, match=r"holds databases, but .*17/main has no postgresql.conf"):
        keeper.put_aside(postgres.clusters(str(root))["17"])
    assert (root / "var/lib/postgresql/17/main/base").is_dir()
