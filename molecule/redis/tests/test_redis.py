"""The promises of the role's README, with the real server and Python's own client for it."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

SCENARIO = Path(__file__).parents[1]
SANDBOX = SCENARIO.parents[1] / "roles" / "gunicorn_app" / "templates" / "sandbox.j2"
UNIT = "forge-redis.service"
SOCKET = "/run/forge-redis/redis.sock"
USERS = "/etc/groundwork/redis/forge-users.conf"
PASSWORD = yaml.safe_load((SCENARIO / "molecule.yml").read_text())["provisioner"]["inventory"]["group_vars"]["all"][
    "groundwork_redis_password"
]
REFUSED = "Authentication required|invalid username-password pair"
MEGABYTE = 1024 * 1024
#: asks Redis as a site does, and prints the answers, or the class and the text of the error, as JSON
CLIENT = """
import json, os, redis
client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
answers = []
for command in json.loads(os.environ["COMMANDS"]):
    try:
        answers.append(client.execute_command(*command))
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


def url(password=PASSWORD, user="forge"):
    return f"unix://{user}:{quote(password, safe='')}@{SOCKET}?db=0"


@pytest.fixture
def ask(host):
    """Function that gives commands as a system user, in the sandbox that gunicorn has, and returns the answers."""
    settings = [line for line in SANDBOX.read_text().splitlines() if re.match(r"[A-Z]\w+=[^{]*$", line)]
    assert "PrivateUsers=true" in settings
    sandbox = " ".join(f"--property='{line}'" for line in settings)

    def run(*commands, target=None, user="forge"):
        start = f"systemd-run --quiet --wait --collect --pipe {sandbox} --property=User={user} --property=Group={user}"
        environment = "--setenv=REDIS_URL=%s --setenv=COMMANDS=%s"
        text = json.dumps([command.split(" ") for command in commands])
        done = host.run(f"{start} {environment} /usr/bin/python3 -c %s", target or url(), text, CLIENT)
        assert done.rc == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_nobody_can_knock_from_outside(host):
    assert host.file(SOCKET).is_socket
    assert not [socket for socket in host.socket.get_listening_sockets() if socket.endswith(":6379")]
    process = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    addresses = host.check_output(f"nsenter --target {process} --net ip -oneline address")
    assert {line.split()[1] for line in addresses.splitlines()} <= {"lo"}


def test_the_site_s_user_comes_in_with_its_password(ask):
    assert ask("SET greeting hello", "GET greeting")[1] == "hello"


@pytest.mark.parametrize(
    "target",
    [f"unix://{SOCKET}?db=0", url("guessed, and long enough"), url("", "default"), url(PASSWORD, "default")],
    ids=["none", "wrong", "default without", "default with"],
)
def test_nobody_comes_in_without_the_password(ask, target):
    (answer,) = ask("GET greeting", target=target)
    assert re.search(REFUSED, answer), answer


def test_another_site_s_user_does_not_even_reach_the_socket(host, ask):
    (answer,) = ask("PING", user="annex")
    assert answer.startswith("ConnectionError: ") and "ermission denied" in answer
    directory, socket = host.file("/run/forge-redis"), host.file(SOCKET)
    assert (directory.group, directory.mode) == ("forge", 0o750)
    assert (socket.group, socket.mode) == ("forge", 0o770)


def test_the_instance_runs_as_a_user_that_nothing_else_runs_as(host):
    process = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    number = host.check_output(f"stat --format=%u /proc/{process}")
    assert 61184 <= int(number) <= 65519, "not a user that systemd made for the unit"
    assert host.check_output(f"ps --user {number} -o pid=").split() == [process]


def test_the_password_is_nowhere_on_the_host(host):
    users = host.file(USERS)
    assert (users.user, users.group, users.mode) == ("root", "root", 0o600)
    assert re.search(r"^user forge on #[0-9a-f]{64} ", users.content_string, re.MULTILINE)
    for form in (PASSWORD, quote(PASSWORD, safe="")):
        assert host.run("grep -rF -e %s /etc /run/forge-redis /var/lib /var/log", form).rc == 1
        assert host.run("journalctl --unit=forge-redis --output=cat | grep -F -e %s", form).rc == 1


def test_the_site_can_do_what_a_cache_needs(ask):
    commands = ["SET a 1 EX 60", "INCRBY a 2", "MGET a b", "EXPIRE a 90", "EXISTS a", "SCAN 0", "DEL a", "DBSIZE"]
    answers = ask(*commands, "SET b 1", "FLUSHDB", "GET b", "INFO memory")
    assert not [answer for answer in answers if "Error" in str(answer)], answers
    assert answers[1] == 3 and answers[-2] is None
    transaction = ask("SELECT 1", "MULTI", "SET c 1", "EXEC")
    assert not [answer for answer in transaction if "NoPermission" in str(answer)], transaction


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG GET maxmemory",
        "CONFIG SET dir /tmp",
        "DEBUG SLEEP 0",
        "FLUSHALL",
        "KEYS *",
        "EVAL return(1) 0",
        "SCRIPT FLUSH",
        "SHUTDOWN NOSAVE",
        "SAVE",
        "BGSAVE",
        "ACL LIST",
        "ACL WHOAMI",
        "MODULE LIST",
        "REPLICAOF 192.0.2.1 6379",
        "MONITOR",
        "CLIENT LIST",
        "CLIENT PAUSE 1000",
        "MIGRATE 192.0.2.1 6379 a 0 10",
        "SWAPDB 0 1",
        "PUBLISH a b",
    ],
)
def test_dangerous_commands_are_refused(ask, command):
    (answer,) = ask(command)
    # DEBUG is refused to everybody, before rights are asked for.
    assert re.match(r"NoPermissionError: .*no permissions to run|ResponseError: DEBUG command not allowed", answer), (
        answer
    )


def test_full_memory_makes_room_and_writing_goes_on(host, ask):
    fill = """
import os, redis
client = redis.Redis.from_url(os.environ["REDIS_URL"])
client.flushdb()
for number in range(1024):
    client.set(f"key-{number}", os.urandom(65536))
assert client.get("key-1023"), "the newest is gone"
print(client.info("memory")["used_memory"], client.dbsize(), client.info("stats")["evicted_keys"])
client.flushdb()
"""
    as_site = "setpriv --reuid=forge --regid=forge --init-groups"
    used, kept, evicted = map(int, host.check_output(f"REDIS_URL=%s {as_site} python3 -c %s", url(), fill).split())
    assert used <= 17 * MEGABYTE
    assert 0 < kept < 300 and evicted >= 1024 - kept
    assert ask("DBSIZE") == [0]


def test_a_restart_begins_empty(host, ask):
    ask("SET kept no")
    host.check_output(f"systemctl restart {UNIT}")
    assert ask("GET kept") == [None]
    assert host.check_output("find /var/lib/redis /run/forge-redis -type f") == ""


def test_killed_it_comes_back_by_itself(host, ask):
    for _ in range(6):
        host.check_output(f"systemctl kill --signal=KILL {UNIT}")
        alive = f"until systemctl is-active --quiet {UNIT} && test -S {SOCKET}; do sleep 0.2; done"
        assert host.run(f"sleep 0.3; timeout 10 sh -c '{alive}'").rc == 0
    assert ask("SET greeting again", "GET greeting")[1] == "again"


def test_the_instance_of_the_package_is_off(host):
    assert not host.service("redis-server").is_running
    assert not host.service("redis-server").is_enabled


def test_an_instance_that_somebody_uses_is_left_alone(host, play):
    host.check_output("systemctl enable --now redis-server")
    try:
        assert play().changed == 0
        assert host.service("redis-server").is_running and host.service("redis-server").is_enabled
    finally:
        host.check_output("systemctl disable --now redis-server")


def test_a_new_password_counts_at_once_and_is_in_no_output(ask, play):
    changed = "another one, that is as long"
    run = play("-vvv", "--diff", "--extra-vars", json.dumps({"groundwork_redis_password": changed}))
    assert run.changed == 1
    assert PASSWORD not in run.output and changed not in run.output
    assert ask("GET greeting", target=url(changed)) == [None]
    assert re.search(REFUSED, ask("GET greeting")[0])
    assert play().changed == 1
    assert ask("GET greeting") == [None]


def test_switched_off_it_is_gone_and_switched_on_it_is_back(host, ask, play):
    off = ("--extra-vars", json.dumps({"groundwork_redis_enabled": False, "groundwork_redis_password": ""}))
    assert play("--check", *off).changed == 1
    assert host.service(UNIT).is_running
    assert play(*off).changed == 1
    assert host.run(f"systemctl is-active {UNIT}").rc != 0
    left = "find /etc /run /usr/local -name '*forge*redis*' -o -path '*groundwork/redis/*'"
    assert host.check_output(left) == ""
    assert play(*off).changed == 0
    assert play().changed == 1
    assert len(ask("DBSIZE")) == 1
