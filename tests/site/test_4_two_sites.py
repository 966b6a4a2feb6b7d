"""Two sites on one host, by two runs with different inventories, do not disturb each other."""

from __future__ import annotations

# Every file of a site, its users of ports and sockets, and when its processes started.
STATE = """
cd /
find etc srv var/lib usr/local -xdev -path "*{site}*" -type f -not -path '*/static/*' -exec sha256sum {{}} + | sort -k2
systemctl show '{site}@blue' '{site}@green' '{site}-*' -p Id -p ActiveEnterTimestamp -p UnitFileState
su postgres -c "psql -Atc \\"select datname, datacl from pg_database where datname = '{site}'\\""
"""


def state(machine, site: str) -> str:
    return machine.shell(STATE.format(site=site))


def test_a_second_site_joins_and_both_serve(machine):
    machine.play("forge")
    before = state(machine, "forge")
    machine.play("annex")
    assert machine.get("/", "annex")[0] == 200
    assert machine.get("/", "forge")[0] == 200
    assert state(machine, "forge") == before


def test_both_runs_have_nothing_left_to_do(machine):
    for site in ("forge", "annex"):
        run = machine.play(site)
        assert run.changes == [], f"{site}: {run.output}"


def test_a_change_to_one_changes_nothing_of_the_other(machine):
    before = state(machine, "annex")
    machine.inventory("forge", nginx_client_max_body_size="12m", gunicorn_app_threads=6)
    assert machine.play("forge").changes
    assert state(machine, "annex") == before
    assert machine.get("/", "annex")[0] == 200
    run = machine.play("annex")
    assert run.changes == [], run.output


def test_a_domain_of_the_other_site_is_refused(machine):
    machine.inventory("annex", groundwork_site_domains=["annex.site.test", "forge.site.test"])
    run = machine.play("annex", "--tags", "validate", ok=False)
    machine.values["annex"].clear()
    assert run.status != 0
    assert "forge.site.test" in run.output and "forge" in run.output
    assert run.total("changed") == 0
