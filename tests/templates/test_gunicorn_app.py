"""What systemd and gunicorn are told."""

from render import evaluate, render

UNIT = "etc/systemd/system/_site_@.service.j2"


def test_a_slot_is_confined():
    unit = render("gunicorn_app", UNIT)
    for line in (
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "PrivateUsers=true",
        "ReadWritePaths=/var/lib/forge /var/log/forge",
        # Without these two gunicorn's workers die while the unit stays active.
        "SystemCallFilter=@chown",
        "SystemCallErrorNumber=EPERM",
    ):
        assert f"\n{line}\n" in unit, line


def test_a_slot_listens_on_no_port_but_those_that_are_named():
    assert "\nSocketBindDeny=any\n" in render("gunicorn_app", UNIT)
    assert "SocketBindAllow" not in render("gunicorn_app", UNIT)
    unit = render("gunicorn_app", UNIT, gunicorn_app_listen_ports=[5555, 9100])
    assert "\nSocketBindDeny=any\nSocketBindAllow=5555\nSocketBindAllow=9100\n" in unit


def test_a_slot_has_run_time_directories_of_its_own():
    unit = render("gunicorn_app", UNIT, gunicorn_app_run_directory="/run/sites/forge")
    assert "\nRuntimeDirectory=sites/forge/%i sites/forge/%i/metrics\n" in unit
    assert "\nEnvironment=PROMETHEUS_MULTIPROC_DIR=/run/sites/forge/%i/metrics\n" in unit


def test_no_secret_stands_in_the_unit():
    unit = render("gunicorn_app", UNIT, gunicorn_app_secrets={"SECRET_KEY": "not-for-the-unit"})
    assert "not-for-the-unit" not in unit
    assert "EnvironmentFile=/srv/forge/slots/%i/env" in unit


def test_workers_follow_the_cores_and_are_two_at_least():
    for cores, workers in ((1, 2), (2, 2), (8, 8)):
        text = render("gunicorn_app", "gunicorn.conf.py.j2", facts={"processor_nproc": cores})
        assert f"\nworkers = {workers}\n" in text


def test_gunicorn_keeps_idle_connections_longer_than_nginx_does():
    text = render("gunicorn_app", "gunicorn.conf.py.j2")
    keepalive = int(text.split("keepalive = ")[1].split()[0])
    upstream = render("nginx", "etc/nginx/groundwork/_site_/upstream.conf.j2", __nginx_tls={})
    idle = int(upstream.split("keepalive_timeout ")[1].split("s")[0]) if "keepalive_timeout" in upstream else 60
    assert keepalive > idle


def test_true_and_false_reach_django_as_python_spells_them():
    text = evaluate(
        "gunicorn_app",
        "gunicorn_app_environment | groundwork.django.systemd_environment",
        gunicorn_app_environment={"ON": True, "OFF": False},
    )
    assert 'ON="True"' in text and 'OFF="False"' in text
