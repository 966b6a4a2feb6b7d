"""The promises of the role base about units that fail, with a real server for mail that wants TLS and a password."""

import base64
import email
import email.policy
import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest

METRICS = "/var/lib/prometheus/node-exporter/groundwork_failures.prom"
MAILER = "groundwork-failure-mail.service"
PEOPLE = ["ada@example.org", "lin@example.org"]
SENDER = "forge@example.org"
SERVER = """
import json, ssl, time
from pathlib import Path
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

LOGIN, PASSWORD = Path("account").read_bytes().splitlines()


class Keep:
    async def handle_DATA(self, server, session, envelope):
        mail = {"from": envelope.mail_from, "to": sorted(envelope.rcpt_tos), "port": server.port,
                "tls": server.transport.get_extra_info("ssl_object") is not None, "content": envelope.content.decode()}
        Path(f"mails/{time.time_ns()}").write_text(json.dumps(mail) + "\\n")
        return "250 kept"


class Relay(Controller):
    def factory(self):
        server = super().factory()
        server.port = self.port
        return server


def known(server, session, envelope, mechanism, account):
    return AuthResult(success=account == LoginPassword(LOGIN, PASSWORD))


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("relay.crt", "relay.key")
options = {"hostname": "127.0.0.1", "authenticator": known, "auth_required": True}
Relay(Keep(), port=587, tls_context=context, require_starttls=True, **options).start()
Relay(Keep(), port=465, ssl_context=context, auth_require_tls=False, **options).start()
while True:
    time.sleep(60)
"""
MAKE_RELAY = """
set -e
apt-get install -y -q python3-aiosmtpd openssl
mkdir -p mails
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=Test CA' \
  -keyout ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=relay.test' -keyout relay.key -out relay.csr
echo 'subjectAltName=DNS:relay.test' > names
openssl x509 -req -in relay.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out relay.crt
cp ca.crt /usr/local/share/ca-certificates/relay-test.crt
update-ca-certificates
grep -q relay.test /etc/hosts || echo '127.0.0.1 relay.test' >> /etc/hosts
"""
START_RELAY = """
set -e
systemd-run --quiet --collect --unit=relay -p WorkingDirectory=/root/relay python3 server.py
until (exec 3<> /dev/tcp/127.0.0.1/587 && exec 4<> /dev/tcp/127.0.0.1/465) 2> /dev/null; do sleep 0.2; done
"""


@pytest.fixture(scope="module")
def password() -> str:
    found = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "relay_password"
    return found.read_text().rstrip("\n") + ' "\\#'


@pytest.fixture(scope="module")
def relay(host, password):
    """A server for mail: `start`, `stop`, and `mails`, what it has taken, oldest first."""

    def bash(script):
        return host.check_output("bash -c %s", f"mkdir -p /root/relay && cd /root/relay\n{script}")

    def place(name, text):
        coded = base64.b64encode(text.encode()).decode()
        bash(f"base64 -d <<< {coded} > {name}")

    class Relay:
        def start(self):
            bash(START_RELAY)

        def stop(self):
            host.check_output("systemctl stop relay")

        def mails(self, unit=""):
            found = [json.loads(text) for text in bash("tail -qn +1 mails/* 2>/dev/null || true").splitlines()]
            for mail in found:
                mail["message"] = email.message_from_string(mail["content"], policy=email.policy.default)
            return [mail for mail in found if unit in mail["message"]["Subject"]]

    place("server.py", SERVER)
    place("account", f"{SENDER}\n{password}\n")
    bash(MAKE_RELAY)
    found = Relay()
    found.start()
    yield found
    found.stop()


@pytest.fixture
def fail(host):
    """Function that has units of these names, with these last words, fail at once."""

    def run(*names, words="The dump of forge failed.", wait=True):
        units = [f"{name}.service" for name in names]
        lines = ["[Unit]", "OnFailure=groundwork-failure@%n.service", "[Service]", "Type=oneshot"]
        lines += [f"ExecStart=/bin/sh -c 'echo \"{words}\" >&2; exit 1'"]
        text = shlex.quote("\n".join(lines) + "\n")
        for unit in units:
            host.check_output(f"printf %s {text} > /run/systemd/system/{unit}")
        host.check_output("systemctl daemon-reload")
        before = counts(host)
        host.run(f"systemctl start {'' if wait else '--no-block '}{' '.join(units)}")
        wait_for(lambda: all(counts(host).get(unit, 0) > before.get(unit, 0) for unit in units))

    return run


def counts(host):
    """How often units have failed, as the metrics have it."""
    text = host.run(f"cat {METRICS}").stdout
    return {unit: int(number) for unit, number in re.findall(r'_failures_total\{unit="(.*)"\} (\d+)', text)}


def waiting(host):
    """How many mails wait, as the metrics have it."""
    return int(re.search(r"^groundwork_failure_mails_waiting (\d+)$", host.file(METRICS).content_string, re.M)[1])


def wait_for(is_so, seconds=30):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.3)


def send_what_waits(host):
    """Do what the timer does."""
    host.run(f"systemctl reset-failed {MAILER}")
    return host.run(f"systemctl start {MAILER}")


def test_a_failure_is_counted_noted_and_mailed(host, relay, fail):
    before = time.time()
    fail("shop-backup", words="The dump of shop failed: the disk is full.")
    text = host.file(METRICS).content_string
    assert 'groundwork_unit_failures_total{unit="shop-backup.service"} 1\n' in text
    last = re.search(r'groundwork_unit_last_failure_timestamp_seconds\{unit="shop-backup.service"\} (\d+)\n', text)
    assert before - 2 <= int(last[1]) <= time.time() + 2
    assert host.file(METRICS).mode == 0o644
    wait_for(lambda: relay.mails("shop-backup"))
    [mail] = relay.mails("shop-backup")
    assert (mail["from"], mail["to"], mail["port"], mail["tls"]) == (SENDER, PEOPLE, 587, True)
    name = host.check_output("hostname")
    assert mail["message"]["Subject"] == f"shop-backup.service has failed on {name}"
    assert mail["message"]["From"] == SENDER
    body = mail["message"].get_content().replace("\r\n", "\n")
    assert f"shop-backup.service has failed on {name} at " in body
    assert "(exit-code)" in body
    assert "    The dump of shop failed: the disk is full.\n" in body
    assert "journalctl -u shop-backup.service" in body
    said = host.check_output("journalctl -p err -o cat -t failure.py --no-pager")
    assert "shop-backup.service has failed; failures so far: 1. A mail is left to be sent." in said.splitlines()
    assert waiting(host) == 0


def test_the_next_failures_are_counted_but_not_mailed(host, relay, fail):
    for _ in range(3):
        fail("often")
    wait_for(lambda: relay.mails("often"))
    assert counts(host)["often.service"] == 3
    send_what_waits(host)
    assert len(relay.mails("often")) == 1
    # As if hours had gone by.
    records = "/var/lib/groundwork/failures/records.json"
    host.check_output("sed -i -E %s %s", r's/("often.service": [^}]*"mailed": )[0-9]+/\11/', records)
    fail("often")
    wait_for(lambda: len(relay.mails("often")) == 2)
    assert "no mail has told of: 2." in relay.mails("often")[1]["message"].get_content()


def test_units_that_fail_at_once_are_all_counted_and_mailed(host, relay, fail):
    names = [f"crowd{number}" for number in range(8)]
    fail(*names, wait=False)
    assert [counts(host)[f"{name}.service"] for name in names] == [1] * 8
    # A mail that was left while others were being sent goes with the timer.
    wait_for(lambda: host.run(f"systemctl is-active {MAILER}").stdout.strip() != "activating")
    send_what_waits(host)
    assert sorted(mail["message"]["Subject"].split(".")[0] for mail in relay.mails("crowd")) == names


def test_a_mail_waits_for_a_relay_that_is_away(host, relay, fail):
    relay.stop()
    fail("patient")
    wait_for(lambda: host.run(f"systemctl is-failed {MAILER}").stdout.strip() == "failed")
    assert counts(host)["patient.service"] == 1
    assert waiting(host) == 1
    said = host.check_output(f"journalctl -p err -o cat -u {MAILER} --no-pager")
    assert "The mail about patient.service waits for the next time." in said
    assert "refused" in said
    relay.start()
    timer = host.check_output(
        "systemctl show -p ActiveState -p UnitFileState -p TimersCalendar groundwork-failure-mail.timer"
    )
    assert "ActiveState=active" in timer
    assert "UnitFileState=enabled" in timer
    assert "*:00/10:00" in timer
    assert send_what_waits(host).rc == 0
    assert len(relay.mails("patient")) == 1
    assert waiting(host) == 0


def test_a_relay_that_nobody_vouches_for_gets_nothing(host, relay, fail):
    trusted = "/usr/local/share/ca-certificates/relay-test.crt"
    host.check_output(f"mv {trusted} /root/relay-test.crt && update-ca-certificates --fresh")
    fail("distrust")
    wait_for(lambda: host.run(f"systemctl is-failed {MAILER}").stdout.strip() == "failed")
    assert relay.mails("distrust") == []
    assert "certificate" in host.check_output(f"journalctl -o cat -u {MAILER} -n 20 --no-pager")
    host.check_output(f"mv /root/relay-test.crt {trusted} && update-ca-certificates")
    assert send_what_waits(host).rc == 0
    assert len(relay.mails("distrust")) == 1


def test_what_other_programs_mail_to_users_of_the_host_reaches_people(host, relay):
    host.check_output(
        "printf 'From: root\\nSubject: of cron\\n\\nhello\\n' | /usr/sbin/sendmail -i -FCronDaemon -f root root"
    )
    [mail] = relay.mails("of cron")
    assert (mail["from"], mail["to"]) == (SENDER, PEOPLE)
    assert mail["message"]["From"] == f"CronDaemon <{SENDER}>"
    dump = host.check_output("apt-config dump Unattended-Upgrade")
    assert f'Unattended-Upgrade::Mail "{", ".join(PEOPLE)}";' in dump
    assert 'Unattended-Upgrade::MailReport "only-on-error";' in dump


def test_an_update_that_fails_is_mailed(host, relay):
    """By the very function of unattended-upgrades that does it."""
    program = (
        "import importlib.machinery, importlib.util, apt_pkg; apt_pkg.init_config();"
        "loader = importlib.machinery.SourceFileLoader('uu', '/usr/bin/unattended-upgrade');"
        "uu = importlib.util.module_from_spec(importlib.util.spec_from_loader('uu', loader)); loader.exec_module(uu);"
        "to = apt_pkg.config.find('Unattended-Upgrade::Mail');"
        "uu._send_mail_using_sendmail(apt_pkg.config.find('Unattended-Upgrade::Sender'), to, 'of an update', 'x')"
    )
    host.check_output("python3 -c %s", program)
    [mail] = relay.mails("of an update")
    assert (mail["from"], mail["to"]) == (SENDER, PEOPLE)


def test_the_password_is_for_root_only_and_nowhere_else(host, play, password):
    places = "/etc /var /run /usr/local /tmp /root"
    script = f"grep -rlsF -e {shlex.quote(password)} {places} | grep -v ^/root/relay/account$"
    assert host.check_output("bash -c %s", script).split() == ["/etc/msmtprc"]
    file = host.file("/etc/msmtprc")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert password not in host.check_output("journalctl --no-pager")
    other = "another-" + "password-to-show"
    run = play("--check", "--diff", "-vvv", "-e", json.dumps({"base_mail_relay_password": other}))
    assert run.changed > 0
    assert other not in run.output
    assert password.split()[0] not in run.output


def test_the_distribution_s_units_are_watched_as_well(host):
    for unit in ("apt-daily.service", "apt-daily-upgrade.service", "groundwork-restart-after-updates.service"):
        assert f"groundwork-failure@{unit}.service" in host.check_output(f"systemctl show -p OnFailure {unit}")


def test_both_units_are_sandboxed(host):
    for unit in ("groundwork-failure@x.service", MAILER):
        exposure = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -1")
        assert float(re.search(r"([0-9.]+) \w+", exposure)[1]) <= 3.0, f"{unit}: {exposure}"


def test_tls_from_the_first_byte(host, play, relay, fail):
    play("-e", json.dumps({"base_mail_relay_tls": "tls", "base_mail_relay_port": 465}))
    fail("prompt")
    wait_for(lambda: relay.mails("prompt"))
    [mail] = relay.mails("prompt")
    assert (mail["port"], mail["tls"]) == (465, True)


def test_without_recipients_failures_are_counted_and_nothing_mails(host, play, relay, fail):
    play("-e", json.dumps({"base_operator_emails": []}))
    for path in ("/etc/msmtprc", "/etc/groundwork/mail-aliases", f"/etc/systemd/system/{MAILER}"):
        assert not host.file(path).exists
    assert host.run("systemctl is-active groundwork-failure-mail.timer").stdout.strip() == "inactive"
    assert host.run("ls /etc/systemd/system/timers.target.wants/groundwork-failure-mail.timer").rc != 0
    fail("quiet")
    assert counts(host)["quiet.service"] == 1
    assert host.check_output("ls /var/lib/groundwork/failures/mails") == ""
    assert "mails_waiting" not in host.file(METRICS).content_string
    play()
    assert host.run("systemctl is-active groundwork-failure-mail.timer").stdout.strip() == "active"
