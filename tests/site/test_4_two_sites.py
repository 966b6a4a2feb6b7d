"""Two sites on one host, by two runs with different inventories, do not disturb each other."""

from __future__ import annotations

from machine import ROOT

# Every file of a site, its users of ports and sockets, and when its processes started.
STATE = """
cd /
find etc usr/local var/lib/groundwork -xdev -path "*{site}*" -type f -exec sha256sum {{}} + | sort -k2
find srv/{site}/releases srv/{site}/slots var/lib/{site} -xdev -type f -exec sha256sum {{}} + | sort -k2
systemctl show '{site}@blue' '{site}@green' '{site}-*' -p Id -p ActiveEnterTimestamp -p UnitFileState
su postgres -c "psql -Atc \\"select datname, datacl from pg_database where datname = '{site}'\\""
"""


def state(converged, site: str) -> str:
    return converged.shell(STATE.format(site=site))


def test_a_second_site_joins_and_both_serve(converged):
    converged.play("forge")
    before = state(converged, "forge")
    converged.play("annex")
    assert converged.get("/", "annex")[0] == 200
    assert converged.get("/", "forge")[0] == 200
    assert state(converged, "forge") == before


def test_both_runs_have_nothing_left_to_do(converged):
    for site in ("forge", "annex"):
        run = converged.play(site)
        assert run.changes == [], f"{site}: {run.output}"


def test_a_change_to_one_changes_nothing_of_the_other(converged):
    before = state(converged, "annex")
    converged.inventory("forge", nginx_client_max_body_size="12m", gunicorn_app_threads=6)
    assert converged.play("forge").changes
    assert state(converged, "annex") == before
    assert converged.get("/", "annex")[0] == 200
    run = converged.play("annex")
    assert run.changes == [], run.output


def test_each_site_keeps_its_admins(converged):
    key = (converged.folder / "key.pub").read_text(encoding="utf-8").strip()
    for site, name in (("forge", "ada"), ("annex", "bob")):
        converged.inventory(site, base_admin_users=[{"name": name, "ssh_keys": [key]}])
        converged.play(site)
    for site in ("forge", "annex"):
        run = converged.play(site)
        assert run.changes == [], f"{site}: {run.output}"
    for name in ("ada", "bob"):
        assert converged.shell(f"su {name} -c 'sudo -n id -u'").strip() == "0"


def test_nginx_shows_nobody_what_a_link_in_the_media_of_a_site_leads_to(converged):
    """It may read what the sites show, and so what one of them may not read of the other."""
    media = "/var/lib/forge/media"
    targets = {
        "code": "/srv/annex/live/project/manage.py",
        "log": "/var/log/nginx/annex.access.log",
        "upload": "/var/lib/annex/media/theirs.txt",
        "host": "/etc/passwd",
        "own": f"{media}/ours.txt",
    }
    converged.shell("runuser -u annex -- sh -c 'umask 027; echo theirs > /var/lib/annex/media/theirs.txt'")
    converged.shell(f"runuser -u forge -- sh -c 'umask 027; echo ours > {media}/ours.txt'")
    for name, target in targets.items():
        converged.shell(f"runuser -u forge -- ln -sfn {target} {media}/{name}")
    converged.shell(f"runuser -u forge -- ln -sfn /srv/annex/live/project {media}/folder")
    try:
        assert converged.get("/media/theirs.txt", "annex")[:2] == (200, b"theirs\n")
        assert converged.get("/media/ours.txt")[:2] == (200, b"ours\n")
        answers = {name: converged.get(f"/media/{name}")[0] for name in [*targets, "folder/manage.py"]}
        assert answers == {**dict.fromkeys([*targets, "folder/manage.py"], 403), "own": 200}
    finally:
        converged.shell(f"cd {media} && rm -f folder ours.txt {' '.join(targets)} /var/lib/annex/media/theirs.txt")


def test_a_domain_of_the_other_site_is_refused(converged):
    converged.inventory("annex", groundwork_site_domains=["annex.site.test", "forge.site.test"])
    run = converged.play("annex", "--tags", "validate", ok=False)
    converged.values["annex"].clear()
    assert run.status != 0
    assert "forge.site.test" in run.output and "forge" in run.output
    assert run.total("changed") == 0


def test_one_site_is_removed_as_the_documentation_says_and_the_other_stays(converged):
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    commands = page.split("## Remove one site from a host")[1].split("```sh\n")[1].split("```")[0]
    assert commands.startswith("site=annex\n")
    before = state(converged, "forge")
    converged.shell(f"set -e\n{commands}")
    left = converged.shell("find /etc /srv /var/lib /usr/local -xdev -name '*annex*' -not -path '/etc/letsencrypt/*'")
    assert left.strip() == ""
    assert state(converged, "forge") == before
    assert converged.get("/", "forge")[0] == 200
    assert converged.shell("systemctl --failed --no-legend --plain").strip() == ""
    # Services that all sites share notice once that files are gone; nothing else is left to do.
    run = converged.play("forge", "--diff")
    added = [line[1:] for line in run.output.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert [line for line in added if not line.endswith(".service: reload")] == [], run.output
    assert state(converged, "forge") == before
    run = converged.play("forge")
    assert run.changes == [], run.output
