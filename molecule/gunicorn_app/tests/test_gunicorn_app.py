"""What roles/gunicorn_app/README.md promises; each test is named after its promise."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
FIXTURE = SCENARIO.parents[1] / "tests" / "fixtures" / "minimal_site"
# Molecule makes one dollar of two.
TEXT = (SCENARIO / "molecule.yml").read_text(encoding="utf-8").replace("$$", "$")
VALUES = yaml.safe_load(TEXT)["provisioner"]["inventory"]["group_vars"]["all"]
# Without the one that the host makes.
SECRETS = {name: value for name, value in VALUES["gunicorn_app_secrets"].items() if isinstance(value, str)}
EXPECTED = {**VALUES["gunicorn_app_environment"], **SECRETS, "A_BOOLEAN": "True", "A_NUMBER": "42"}
SENTENCE = re.compile(
    r"Release [0-9a-f]{10}-[0-9a-f]{6} of forge stopped at (?P<reason>.*); "
    r"release (?P<serves>\S+) in slot (?P<slot>blue|green) (?P<how>[a-z ]+), and the log on the host is "
    r"(?P<log>\S*\.log)\."
)
OTHER = {"blue": "green", "green": "blue"}
LINK = "/srv/forge/live.sock"


def command(*arguments: str) -> list[str]:
    """The scenario's playbook as a command line."""
    playbook = SCENARIO.parent / "shared" / "converge.yml"
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    return ["ansible-playbook", "--inventory", str(inventory), *arguments, str(playbook)]


def from_directory(path: Path) -> str:
    """Argument of ansible-playbook that has a directory released."""
    return "--extra-vars=" + json.dumps({"gunicorn_app_source": {"type": "directory", "path": str(path)}})


def live(host, site: str = "forge") -> tuple[str, str]:
    """Live slot and its release."""
    slot = host.check_output(f"basename $(readlink /srv/{site}/live)")
    return slot, host.check_output(f"basename $(readlink /srv/{site}/slots/{slot})")


@pytest.fixture
def site(tmp_path):
    """Return a copy of the fixture site that a test may change; its first change makes it a release of its own."""
    copy = tmp_path / "site"
    shutil.copytree(FIXTURE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "minimal" / "urls.py").open("a", encoding="utf-8") as stream:
        stream.write(f"# {tmp_path}\n")
    return copy


@pytest.fixture(scope="module", autouse=True)
def back_to_the_scenario(play):
    """Leave the host as the scenario's own values have it."""
    yield
    play()


@pytest.fixture
def front(get):
    """Return a function that asks nginx for the front page, or another one."""
    return lambda path="/": get(path, scheme="http")


def test_site_answers_through_the_web_server(host, front):
    answer = front()
    assert (answer.status, answer.body.decode()) == (200, f"{live(host)[1]} serves forge.test")


def test_environment_arrives_byte_for_byte(host, front):
    for name, value in EXPECTED.items():
        assert bytes.fromhex(front(f"/environment/{name}").body.decode()) == value.encode(), name
    program = f"import os; print([(name, os.environb[name.encode()].hex()) for name in {list(EXPECTED)!r}])"
    shown = host.check_output("forge-manage shell -c %s", program)
    for name, value in EXPECTED.items():
        assert f"('{name}', '{value.encode().hex()}')" in shown


def reported(host, name: str) -> dict:
    """What a process or a timer of the site has reported of itself."""
    return json.loads(host.check_output(f"cat /var/lib/forge/{name}.json"))


def values_of(report: dict) -> dict[str, str]:
    """The environment in a report."""
    return {name: bytes.fromhex(value).decode() for name, value in report["environment"].items()}


def test_processes_and_timers_get_the_same_environment_and_their_own_words(host):
    host.check_output("systemctl start forge-timer-report.service")
    worker, timer = reported(host, "worker"), reported(host, "timer")
    for report in (worker, timer):
        assert {name: values_of(report)[name] for name in EXPECTED} == EXPECTED
        assert values_of(report)["APP_VERSION"] == live(host)[1]
    own = VALUES["gunicorn_app_processes"][0]
    assert worker["words"] == own["command"][4:]
    assert values_of(worker)["QUEUE"] == own["environment"]["QUEUE"]
    assert "QUEUE" not in values_of(timer)
    assert host.service("forge-timer-report.timer").is_running
    assert host.service("forge-process-worker@1").is_enabled


def test_a_release_restarts_the_processes_and_what_is_not_wanted_is_stopped(host, play, site):
    play("--tags", "deploy", from_directory(site))
    assert values_of(reported(host, "worker"))["APP_VERSION"] == live(host)[1]
    nothing = json.dumps({"gunicorn_app_processes": [], "gunicorn_app_timers": []})
    play("-e", nothing, from_directory(site))
    left = host.run("systemctl list-units --all --plain --no-legend 'forge-process-*' 'forge-timer-*'")
    assert "active" not in left.stdout.replace("inactive", "")
    assert (
        host.run("ls /etc/systemd/system /etc/systemd/system/*.wants | grep -E 'forge-(process|timer)-'").stdout == ""
    )
    assert play("-e", nothing, from_directory(site)).changed == 0
    play()
    assert host.service("forge-process-worker@1").is_running


def test_a_project_that_tells_its_secrets_is_not_heard(host, front, site):
    before = live(host)
    (site / "minimal" / "__init__.py").write_text(
        "import os\n\nfrom django.core.checks import Error, Warning, register\n\n"
        "TOLD = f\"{os.environ['SECRET_KEY']} {os.environ['A_MADE_SECRET']}\"\n"
        "register(lambda app_configs, **kwargs: [Warning(TOLD, id='minimal.W001'), Error(TOLD, id='minimal.E001')])\n",
        encoding="utf-8",
    )
    [made] = json.loads(host.file("/etc/groundwork/gunicorn_app/forge.secrets.json").content_string).values()
    done = subprocess.run(
        command("-vvv", "--diff", "--tags", "deploy", from_directory(site)), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert live(host) == before
    logs = host.check_output("cat /var/log/forge-releases/*.log")
    assert "(minimal.E001) ********" in logs
    for secret in (SECRETS["SECRET_KEY"], made):
        for where in (done.stdout, done.stderr, logs):
            assert secret not in where


def test_secrets_are_for_root_only(host):
    release = live(host)[1]
    environment = host.file(f"/srv/forge/releases/{release}/env")
    assert (environment.user, environment.mode) == ("root", 0o600)
    for where in ("journalctl --no-pager", "ps -eww -o args", "cat /var/log/forge-releases/*.log"):
        for value in SECRETS.values():
            assert value.splitlines()[0] not in host.check_output(where)


def test_site_cannot_change_its_own_code(host):
    program = (
        "import pathlib, sys\n"
        "for path in ('/srv/forge/live/source/x', '/srv/forge/static/x', '/srv/forge/x', '/etc/x', '/home/x'):\n"
        "    try:\n"
        "        pathlib.Path(path).write_text('x')\n"
        "        print('wrote', path)\n"
        "    except OSError:\n"
        "        pass\n"
        "pathlib.Path('/var/lib/forge/media/x').write_text('x')\n"
        "pathlib.Path('/var/log/forge/app.log').write_text('x')\n"
        "print('done', list(pathlib.Path('/tmp').iterdir()), pathlib.Path('/srv/forge/live/env').exists())\n"
    )
    shown = host.check_output("forge-manage shell -c %s", program)
    assert "wrote" not in shown
    assert "done []" in shown
    assert host.run("su -s /bin/sh forge -c 'cat /srv/forge/live/env'").rc != 0


def test_only_the_live_slot_is_started_at_boot(host):
    slot = live(host)[0]
    other = OTHER[slot]
    assert host.service(f"forge@{slot}").is_running and host.service(f"forge@{slot}").is_enabled
    assert not host.service(f"forge@{other}").is_running and not host.service(f"forge@{other}").is_enabled


def test_dead_live_slot_is_started_again(host, play, front):
    slot = live(host)[0]
    host.check_output(f"systemctl disable --now forge@{slot}")
    assert play("--tags", "deploy").changed == 1
    assert host.service(f"forge@{slot}").is_enabled
    assert front().status == 200


def test_link_that_leads_to_the_wrong_slot_is_repaired(host, play, front):
    slot = live(host)[0]
    # nginx keeps its connections for a second.
    host.check_output(f"ln -sfn /run/forge/{OTHER[slot]}/gunicorn.sock {LINK} && sleep 2.5")
    assert front().status == 502
    play("--tags", "deploy")
    assert front().status == 200


def test_release_switches_slots_without_dropping_a_request(host, play, site, address):
    before = live(host)
    css = host.check_output("ls /srv/forge/static/ | grep 'site\\..*\\.css'")
    (site / "minimal" / "static" / "site.css").write_text("body { margin: 1px }\n", encoding="utf-8")
    faults, versions, end = [], set(), threading.Event()

    def ask(path: str, keeps: bool) -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        while not end.is_set():
            try:
                connection.request("GET", path, headers={"Host": "forge.test"})
                answer = connection.getresponse()
                body = answer.read().decode()
                if answer.status != 200:
                    faults.append((path, answer.status, body[:100]))
                versions.add(body.split()[0])
                if answer.will_close or not keeps:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                faults.append((path, repr(error)))
                connection.close()
            time.sleep(0.02)

    threads = [
        threading.Thread(target=ask, args=arguments)
        for arguments in (("/", True), ("/", False), ("/slow?seconds=2", False), ("/slow?seconds=0.5", True))
    ]
    for thread in threads:
        thread.start()
    try:
        output = play("-vvv", "--diff", "--tags", "deploy", from_directory(site)).output
    finally:
        end.set()
        for thread in threads:
            thread.join()
    after = live(host)
    assert faults == []
    assert before[0] != after[0]
    assert versions == {before[1], after[1]}
    for value in SECRETS.values():
        assert value.splitlines()[0] not in output
    # A page that was loaded before the switch still asks for the old file.
    assert host.file(f"/srv/forge/static/{css.splitlines()[0]}").exists
    assert len(host.check_output("ls /srv/forge/static/ | grep 'site\\..*\\.css'").splitlines()) > len(css.splitlines())


BROKEN = {
    "syntax error": ("minimal/urls.py", "def broken(:\n", "SyntaxError"),
    "failing check": (
        "minimal/__init__.py",
        "from django.core.checks import Error, register\n\n"
        "register(lambda app_configs, **kwargs: [Error('the fixture is broken', id='minimal.E001')])\n",
        "check: ?: (minimal.E001) the fixture is broken",
    ),
    "package that the index has not": ("requirements.txt", "groundwork-no-such-package==0.0.1\n", "requirements: "),
    "missing dependency": (
        "minimal/urls.py",
        "import a_package_that_nobody_requires\n",
        "check: ModuleNotFoundError: No module named 'a_package_that_nobody_requires'",
    ),
    "failing migration": (
        "minimal/migrations/0002_broken.py",
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('minimal', '0001_initial')]\n"
        "    operations = [migrations.RunSQL(sql) for sql in ('CREATE TABLE half (id integer)', 'SELECT nonsense')]\n",
        "migrate: django.db.utils.OperationalError: no such column: nonsense",
    ),
    "error at start": (
        "minimal/wsgi.py",
        "raise RuntimeError('it does not start')\n",
        "probe: RuntimeError: it does not start",
    ),
    "error 500": (
        "minimal/urls.py",
        "def front(request):\n    raise RuntimeError('it does not answer')\n\n\nurlpatterns[0] = path('', front)\n",
        "probe: GET / (Host forge.test) answered 500 instead of 200-399",
    ),
    "no answer at all": (
        "minimal/urls.py",
        "def front(request):\n    time.sleep(60)\n\n\nurlpatterns[0] = path('', front)\n",
        "probe: GET / (Host forge.test) got no answer within 2 s",
    ),
    "new variable that is not set": (
        "minimal/settings.py",
        "NEW = os.environ['NEWLY_REQUIRED']\n",
        "collectstatic: KeyError: 'NEWLY_REQUIRED'",
    ),
    "wrong answer": (
        "minimal/urls.py",
        "urlpatterns[0] = path('', lambda request: HttpResponse('moved to another planet'))\n",
        'probe: GET / (Host forge.test) answered 200 without the text "serves forge.test"',
    ),
    "static file": (
        "minimal/static/site.css",
        "body { background: url(no-such-file.png) }\n",
        "collectstatic: ",
    ),
    "worker that is killed for memory at its start": (
        "minimal/wsgi.py",
        "if 'gunicorn' in __import__('sys').argv[0]:\n    HOARD = b'x' * 1_500_000_000\n",
        "probe: a process of it was killed for memory (gunicorn_app_memory_megabytes allows 600)",
    ),
    "worker that is killed for memory at its first request": (
        "minimal/urls.py",
        "urlpatterns[0] = path('', lambda request: HttpResponse(b'x' * 1_500_000_000))\n",
        "probe: a process of it was killed for memory (gunicorn_app_memory_megabytes allows 600)",
    ),
    "command that is killed for memory": (
        "minimal/__init__.py",
        # It is checked where it is migrated.
        "if 'shell' in __import__('sys').argv:\n    HOARD = b'x' * 1_500_000_000\n",
        "check: it was killed, most likely for memory (gunicorn_app_memory_megabytes allows 600)",
    ),
}


def refused(done: subprocess.CompletedProcess) -> str:
    """What the one task that failed said."""
    assert done.returncode != 0, done.stdout
    plain = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    [result] = re.findall(r"^fatal: .*=> ?\n((?:    .*\n)+)", plain, re.MULTILINE)
    return yaml.safe_load(result)["msg"]


def still_serves(host, front, before: tuple[str, str], done: subprocess.CompletedProcess) -> str:
    """Why a release failed, in one sentence, once it is sure that the one before it serves as it did."""
    match = SENTENCE.fullmatch(refused(done))
    assert match, refused(done)
    assert (match["slot"], match["serves"]) == before == live(host)
    assert match["how"] == "still serves"
    assert front().body.decode() == f"{before[1]} serves forge.test"
    assert not host.service(f"forge@{OTHER[before[0]]}").is_running
    assert host.file(match["log"]).size > 0
    return match["reason"]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_release_leaves_the_old_one_serving(host, front, site, kind):
    before = live(host)
    name, text, expected = BROKEN[kind]
    with (site / name).open("a", encoding="utf-8") as stream:
        stream.write(text)
    done = subprocess.run(
        command("--tags", "deploy", from_directory(site)), capture_output=True, text=True, check=False
    )
    assert expected in still_serves(host, front, before, done)


def test_settings_of_a_unit_with_which_no_release_starts_are_not_for_the_old_one(host, front, wait_until):
    before = live(host)
    settings = json.dumps({"gunicorn_app_unit_settings": {"ExecStartPre": "/bin/false"}})
    done = subprocess.run(command("--extra-vars", settings), capture_output=True, text=True, check=False)
    still_serves(host, front, before, done)
    # What an update, a crash and a start of the machine do.
    host.check_output("systemctl daemon-reload")
    host.check_output(f"kill -KILL $(systemctl show --property MainPID --value forge@{before[0]})")
    wait_until("the old release serves", lambda: front().status == 200, 30)
    assert subprocess.run(command(), capture_output=True, check=False).returncode == 0


def test_full_disk_leaves_the_old_release_serving(host, front, site):
    before = live(host)
    with (site / "requirements.txt").open("a", encoding="utf-8") as stream:
        stream.write(f"# {site}\n")
    host.check_output("mount -t tmpfs -o size=2m,mode=0750 tmpfs /srv/forge/venvs")
    try:
        done = subprocess.run(
            command("--tags", "deploy", from_directory(site)), capture_output=True, text=True, check=False
        )
    finally:
        host.check_output("umount /srv/forge/venvs")
    assert re.search(
        r"^requirements: .*no space left on device", still_serves(host, front, before, done), re.IGNORECASE
    )


def test_release_leaves_the_web_server_alone(host, play, front, site):
    workers = "ps -o pid= --ppid $(cat /run/nginx.pid)"
    before = host.check_output(workers)
    host.check_output("echo 'nonsense here;' > /etc/nginx/conf.d/broken.conf")
    try:
        play("--tags", "deploy", from_directory(site))
    finally:
        host.check_output("rm /etc/nginx/conf.d/broken.conf")
    assert front().body.decode().startswith(live(host)[1])
    assert host.check_output(workers) == before


@pytest.mark.parametrize("task", ["Install the packages", "Send requests"])
def test_killed_release_is_completed_by_the_next_run(host, play, front, site, task):
    with (site / "requirements.txt").open("a", encoding="utf-8") as stream:
        stream.write(f"# {site}\n")
    process = subprocess.Popen(
        command("--tags", "deploy", from_directory(site)), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert any(task in line for line in process.stdout)
    time.sleep(0.8)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    play("--tags", "deploy", from_directory(site))
    assert front().body.decode().startswith(live(host)[1])


def test_git_source_is_released_by_branch_and_tag(host, play, front):
    host.check_output(
        "rm -rf /root/repository && cp -r /srv/forge/live/source /root/repository && cd /root/repository"
        " && git init -q -b main . && git config user.email a@example.org && git config user.name a"
        " && git add -A && git commit -qm one && git tag -a first -m first"
        " && echo '# two' >> minimal/urls.py && git commit -qam two"
    )
    commits = host.check_output("cd /root/repository && git log --format=%H").splitlines()

    def arguments(ref: str) -> tuple[str, str, str]:
        source = {"type": "git", "url": "file:///root/repository", "ref": ref}
        return "--tags", "deploy", "--extra-vars=" + json.dumps({"gunicorn_app_source": source})

    for ref, commit in (("first", commits[1]), ("main", commits[0])):
        play(*arguments(ref))
        assert live(host)[1].startswith(commit[:10]), ref
        assert front().body.decode().startswith(commit[:10])
    assert play(*arguments("main")).changed == 0
    assert play("--check", *arguments("main")).changed == 0


def test_old_releases_are_removed(host):
    releases = host.check_output("ls /srv/forge/releases").split()
    assert 2 <= len(releases) <= 3
    assert live(host)[1] in releases
    logs = [name.removesuffix(".log") for name in host.check_output("ls /var/log/forge-releases").split()]
    assert set(releases) <= set(logs)


def playbook(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run one of the collection's playbooks on the scenario's host."""
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    path = SCENARIO.parents[1] / "playbooks" / f"{name}.yml"
    command = ["ansible-playbook", "--inventory", str(inventory), *arguments, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess) -> str:
    """What a run said, on one line."""
    return " ".join((done.stdout + done.stderr).split())


MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("minimal", "{after}")]
    operations = [migrations.{operation}]
"""


def migrate(site: Path, name: str, after: str, operation: str) -> None:
    """Give the site one more migration."""
    text = MIGRATION.format(after=after, operation=operation)
    (site / "minimal" / "migrations" / f"{name}.py").write_text(text, encoding="utf-8")


def test_going_back_goes_to_the_release_before_and_twice_goes_back_twice(host, play, front, site):
    releases = [live(host)[1]]
    for number in range(2):
        with (site / "minimal" / "urls.py").open("a", encoding="utf-8") as stream:
            stream.write(f"# release {number}\n")
        play("--tags", "deploy", from_directory(site))
        releases.append(live(host)[1])
    for earlier in reversed(releases[:2]):
        done = playbook("rollback")
        assert done.returncode == 0, said(done)
        assert live(host)[1] == earlier
        assert front().body.decode().startswith(earlier)
    # The release that is bad is not made again unawares.
    bad = subprocess.run(command("--tags", "deploy", from_directory(site)), capture_output=True, text=True, check=False)
    assert bad.returncode == 0
    assert "is marked bad since" in said(bad)
    assert live(host)[1] == releases[0]
    done = playbook("rollback", "-e", f"groundwork_release={releases[1]}")
    assert done.returncode != 0
    assert f"groundwork_release is {releases[1]}, which is marked bad since" in said(done)
    events = [json.loads(line) for line in host.check_output("cat /var/log/forge-releases/audit.jsonl").splitlines()]
    happened = ["released", "released", "rolled back", "rolled back", "failed"]
    assert [event["event"] for event in events[-5:]] == happened
    assert all(event["operator"] and event["seconds"] > 0 for event in events[-5:-1])


def test_a_new_nullable_column_is_gone_back_from_and_a_dropped_one_is_refused_by_name(host, play, front, site):
    before = live(host)[1]
    operation = 'AddField("visit", "note", models.TextField(null=True))'
    migrate(site, "0002_note", "0001_initial", operation)
    play("--tags", "deploy", from_directory(site))
    done = playbook("rollback")
    assert done.returncode == 0, said(done)
    assert live(host)[1] == before

    migrate(site, "0003_no_note", "0002_note", 'RemoveField("visit", "seen")')
    play("--tags", "deploy", from_directory(site))
    after = live(host)
    done = playbook("rollback")
    assert done.returncode != 0
    assert f"cannot go back to release {before}, which would not work with the database since" in said(done)
    assert "minimal.0003_no_note (removes visit.seen)" in said(done)
    assert live(host) == after
    assert front().status == 200


LEDGER = """

def front(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM minimal_ledger")
    return HttpResponse(f"{os.environ['APP_VERSION']} serves {request.get_host()}", content_type="text/plain")


urlpatterns[0] = path("", front)
"""


def test_a_migration_that_breaks_the_live_release_stops_the_new_one(host, play, front, site):
    urls = (site / "minimal" / "urls.py").read_text(encoding="utf-8")
    (site / "minimal" / "urls.py").write_text(urls + LEDGER, encoding="utf-8")
    operation = 'CreateModel("Ledger", [("id", models.BigAutoField(primary_key=True))])'
    migrate(site, "0100_ledger", "0001_initial", operation)
    play("--tags", "deploy", from_directory(site))
    before = live(host)
    assert front().status == 200

    (site / "minimal" / "urls.py").write_text(urls, encoding="utf-8")
    migrate(site, "0101_no_ledger", "0100_ledger", 'DeleteModel("Ledger")')
    again = command("--tags", "deploy", from_directory(site))
    stopped = refused(subprocess.run(again, capture_output=True, text=True, check=False))
    match = SENTENCE.fullmatch(stopped)
    assert match, stopped
    assert match["reason"].startswith(
        "migrate: the release that serves does not work with the migrated database (GET / (Host forge.test) answered "
        "500 instead of 200-399"
    )
    assert "make what minimal.0101_no_ledger changes in two releases" in match["reason"]
    assert match["how"] == "goes on with errors"
    assert live(host) == before
    assert not host.service(f"forge@{OTHER[before[0]]}").is_running
    # What the sentence names as the other way out is one.
    play("--tags", "deploy", from_directory(site))
    assert live(host) != before
    assert front().status == 200


def test_a_live_release_that_was_lost_is_built_again_and_gone_back_from(host, play, front, site):
    before = live(host)[1]
    play("--tags", "deploy", from_directory(site))
    lost = live(host)[1]
    host.check_output(f"rm -r /srv/forge/releases/{lost}")
    play("--tags", "deploy", from_directory(site))
    assert live(host)[1] == lost
    done = playbook("rollback")
    assert done.returncode == 0, said(done)
    assert live(host)[1] == before
    assert front().status == 200


def test_every_host_of_a_site_goes_back_past_what_one_of_them_migrated(host, play, site, tmp_path):
    """The other host is the same machine under another name, with the same database."""
    machine = host.ansible.get_variables()["inventory_hostname"]
    annex = {
        **{"ansible_connection": "community.docker.docker", "ansible_host": machine},
        **{"gunicorn_app_name": "annex", "gunicorn_app_directory": "/srv/annex"},
        **{"gunicorn_app_static_directory": "/srv/annex/static", "gunicorn_app_run_directory": "/run/annex"},
        **{"gunicorn_app_socket_file": "/srv/annex/live.sock"},
        **{"gunicorn_app_processes": [], "gunicorn_app_timers": []},
    }
    inventory = tmp_path / "more.yml"
    # Several hosts have no secret that one of them makes.
    given = {"gunicorn_app_secrets": SECRETS}
    hosts = {"annex": {**annex, **given}, machine: given}
    inventory.write_text(yaml.safe_dump({"app": {"hosts": hosts}}, default_flow_style=False), encoding="utf-8")
    both = f"--inventory={inventory}"
    sites = ("forge", "annex")
    play(both, from_directory(site))
    before = [live(host, name)[1] for name in sites]
    try:
        migrate(site, "0200_memo", "0001_initial", 'AddField("visit", "memo", models.TextField(null=True))')
        play(both, "--tags", "deploy", from_directory(site))
        assert not set(before) & {live(host, name)[1] for name in sites}
        done = playbook("rollback", both)
        assert done.returncode == 0, said(done)
        assert [live(host, name)[1] for name in sites] == before
    finally:
        host.check_output("systemctl disable --now annex@blue annex@green")


def test_a_second_release_at_a_time_is_told_who_is_at_it(host, play, site):
    (site / "minimal" / "slow.py").write_text("# another release\n", encoding="utf-8")
    slow = json.dumps({"gunicorn_app_build_commands": [{"command": "sleep 15"}]})
    first = subprocess.Popen(
        [*command("--tags", "deploy", from_directory(site)), "-e", slow], stdout=subprocess.PIPE, text=True
    )
    for line in first.stdout:
        if "Run the build commands" in line:
            break
    second = subprocess.run(command("--tags", "deploy"), capture_output=True, text=True, check=False)
    first.stdout.read()
    assert second.returncode != 0
    assert re.search(r"forge is being released by \S+@\S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said(second))
    assert first.wait() == 0
