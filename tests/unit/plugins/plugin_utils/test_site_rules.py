"""The rules about a whole site and its hosts."""

from __future__ import annotations

import pytest
from ansible_collections.groundwork.django.plugins.plugin_utils import site_rules
from ansible_collections.groundwork.django.plugins.plugin_utils.site_rules import Site


@pytest.mark.parametrize("version", ["2.18.1", "2.17.14", "2.9.27", "1.9"])
def test_old_ansible_is_refused(version):
    sentence = site_rules.ansible_too_old(version)
    assert sentence.startswith(f"ansible-core {version} is too old: groundwork.django needs 2.19 or newer")


@pytest.mark.parametrize("version", ["2.19.0", "2.19.0b1", "2.21.5", "2.100.0", "3.0.0"])
def test_supported_ansible_passes(version):
    assert site_rules.ansible_too_old(version) is None


def test_old_python_is_refused():
    assert site_rules.python_too_old((3, 10, 4)).startswith("Python 3.10.4 on the controller is too old")
    assert site_rules.python_too_old((3, 11, 0)) is None


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("Ubuntu", "22.04"),
        ("Ubuntu", "24.04"),
        ("Ubuntu", "26.04"),
        ("Debian", "12"),
        ("Debian", "12.13"),
        ("Debian", "13.1"),
    ],
)
def test_supported_system_passes(name, version):
    assert site_rules.unsupported_system({"distribution": name, "distribution_version": version}) is None


@pytest.mark.parametrize(
    ("name", "version"),
    [("Ubuntu", "20.04"), ("Ubuntu", "25.10"), ("Debian", "11.9"), ("Debian", "120"), ("Rocky", "9.4"), ("Debian", "")],
)
def test_unsupported_system_is_named_beside_the_supported_ones(name, version):
    sentence = site_rules.unsupported_system({"distribution": name, "distribution_version": version})
    assert sentence.startswith(f"{name} {version}".strip())
    assert "is not supported: use a host with Ubuntu 22.04, 24.04, 26.04; Debian 12, 13." in sentence


def test_missing_facts_are_no_fault():
    assert site_rules.unsupported_system({}) is None


@pytest.mark.parametrize("name", ["forge", "a1", "my_site", "a" * 31])
def test_good_site_name_passes(name):
    assert list(site_rules.site_name_faults(name)) == []


@pytest.mark.parametrize("name", ["Forge", "1forge", "a", "my-site", "my site", "a" * 32, "site/../etc"])
def test_malformed_site_name_is_refused(name):
    (sentence,) = site_rules.site_name_faults(name)
    assert "cannot name a user, a database and directories" in sentence


@pytest.mark.parametrize(
    "name", ["root", "postgres", "postgresql", "nginx", "redis", "groundwork", "letsencrypt", "pg_site"]
)
def test_reserved_site_name_is_refused(name):
    (sentence,) = site_rules.site_name_faults(name)
    assert sentence == (
        f'groundwork_site_name is "{name}", a name that the system uses itself: choose another one, like "{name}_site".'
    ) or name.startswith("pg_")


def test_domain_given_twice_is_named():
    (sentence,) = site_rules.domain_faults(["a.test", "b.test", "A.test"], "acme")
    assert sentence == 'groundwork_site_domains has "a.test" twice: remove one of them.'


def test_bare_name_is_refused_only_where_a_public_certificate_is_wanted():
    assert "no ACME server" in next(site_rules.domain_faults(["intranet"], "acme"))
    assert list(site_rules.domain_faults(["intranet"], "selfsigned")) == []


def test_two_sites_with_one_domain_are_both_named():
    forge = Site("forge", ("forge.test", "www.forge.test"), "h1")
    (sentence,) = site_rules.shared_domains(forge, [Site("shop", ("shop.test", "WWW.forge.test"), "h2")])
    assert sentence == (
        'groundwork_site_domains has "www.forge.test" for site forge on h1, but site shop on h2 has it too: '
        "a domain belongs to one site."
    )


def test_one_site_on_many_hosts_is_no_conflict():
    forge = Site("forge", ("forge.test",), "h1")
    assert list(site_rules.shared_domains(forge, [Site("forge", ("forge.test",), "h2")])) == []


def test_sites_on_one_host_need_users_of_their_own():
    forge = Site("forge", ("forge.test",), "h1", "web")
    (sentence,) = site_rules.shared_domains(forge, [Site("shop", ("shop.test",), "h1", "web")])
    assert sentence.startswith('groundwork_site_user is "web", but site shop on h1 runs as that user')
    assert list(site_rules.shared_domains(forge, [Site("shop", ("shop.test",), "h2", "web")])) == []


def test_sites_placed_earlier_are_read_from_local_facts():
    facts = {
        "ansible_local": {
            "groundwork_shop": {"name": "shop", "domains": ["shop.test"], "user": "shop"},
            "groundwork_broken": "error loading facts",
            "groundwork_empty": {},
            "other": {"name": "other", "domains": ["other.test"]},
        }
    }
    assert list(site_rules.placed_sites(facts, "h1")) == [Site("shop", ("shop.test",), "h1", "shop")]
    assert list(site_rules.placed_sites({}, "h1")) == []


def test_database_elsewhere_needs_a_password():
    assert list(site_rules.database_faults("", "")) == []
    assert list(site_rules.database_faults("db.test", "x")) == []
    (sentence,) = site_rules.database_faults("db.test", "")
    assert sentence.startswith('groundwork_database_password is not set, but groundwork_database_host is "db.test"')
