"""What a stranger sees: ssh and the web, one name, and a certificate that renews."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest
from machine import ACME, hosts

# Knocks at all ports, 4000 at a time, and gives each batch two seconds: the kernel notes who answered meanwhile.
SCAN = """
import errno, select, socket, sys, time
for first in range(1, 65536, 4000):
    knocks = {}
    poll = select.poll()
    for port in range(first, min(first + 4000, 65536)):
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex((sys.argv[1], port))
        knocks[knock.fileno()] = port, knock
        poll.register(knock, select.POLLOUT)
    time.sleep(2)
    for number, _event in poll.poll(0):
        port, knock = knocks[number]
        if knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print(port)
    for _port, knock in knocks.values():
        knock.close()
"""


def test_a_port_scan_from_a_second_machine_finds_ssh_and_the_web_only(converged):
    script = 'ulimit -n 8192; exec python3 -c "$0" "$1"'
    found = hosts.docker("exec", ACME, "bash", "-c", script, SCAN, converged.address)
    assert sorted(map(int, found.split())) == [22, 80, 443]


def test_plain_http_is_redirected(converged):
    status, _body, _certificate = converged.get("/", tls=False)
    assert status in (301, 308)


def test_a_strange_name_gets_no_answer(converged):
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection((converged.address, 443), timeout=10)
    with pytest.raises(OSError), trust.wrap_socket(connection, server_hostname="stranger.test") as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: stranger.test\r\n\r\n")
        if not tls.recv(1):
            raise ConnectionResetError
    with socket.create_connection((converged.address, 80), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: stranger.test\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""


def test_nothing_due_means_nothing_changes(converged):
    run = converged.play("forge", "--tags", "certs")
    assert run.changes == [], run.output


def test_a_certificate_made_due_renews_and_the_new_one_is_served(converged):
    before = converged.get("/")[2]["serialNumber"]
    renewal = "/etc/letsencrypt/renewal/forge.conf"
    converged.shell(f"sed -i '/renew_before_expiry/d; 1i renew_before_expiry = 36500 days' {renewal}")
    run = converged.play("forge", "--tags", "certs")
    assert len(run.changes) == 1, run.output
    after = converged.get("/")[2]["serialNumber"]
    assert after != before
    on_disk = converged.shell("openssl x509 -noout -serial -in /etc/letsencrypt/live/forge/cert.pem").strip()
    assert int(on_disk.removeprefix("serial="), 16) == int(after, 16)
    converged.shell(f"sed -i '/renew_before_expiry/d' {renewal}")


def test_an_unsupported_system_is_refused_before_anything_is_touched(converged):
    older = """sed 's/^VERSION_ID=.*/VERSION_ID="11"/; s/^VERSION=.*/VERSION="11 (bullseye)"/; s/trixie/bullseye/'"""
    converged.shell(
        f"rm /etc/os-release; {older} /usr/lib/os-release >/etc/os-release;"
        " cp /etc/debian_version /root/; echo 11.9 >/etc/debian_version"
    )
    try:
        run = converged.play("forge", "--tags", "validate", ok=False)
    finally:
        converged.shell(
            "mv /root/debian_version /etc/; rm /etc/os-release; ln -s ../usr/lib/os-release /etc/os-release"
        )
    assert run.status != 0
    assert "Debian 11" in run.output and "supported" in run.output
    assert run.total("changed") == 0
