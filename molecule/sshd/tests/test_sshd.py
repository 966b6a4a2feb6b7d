"""The promises of the role sshd."""

import re
import subprocess

import pytest

DROP_IN = "/etc/ssh/sshd_config.d/00-groundwork.conf"


@pytest.fixture(scope="module")
def settings(host):
    """What sshd really works with, setting by setting."""
    lines = host.check_output("/usr/sbin/sshd -T").splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


# What OpenSSH 8.5 of March 2021, like libraries of its time, puts first and newer ones still know.
CLIENT_OF_2021 = ("KexAlgorithms=curve25519-sha256", "Ciphers=chacha20-poly1305@openssh.com,aes128-ctr")


def methods(address, user, *options):
    """The login methods that the server offers a user without a key; none where they agree on no algorithm."""
    options = [
        *options,
        "PreferredAuthentications=none",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
    ]
    command = ["ssh", "-v", "-F", "none", *(word for option in options for word in ("-o", option))]
    done = subprocess.run(
        [*command, f"{user}@{address}", "true"], capture_output=True, text=True, timeout=30, check=False
    )
    return re.findall(r"Authentications that can continue: (\S+)", done.stderr)


def listens(address, port):
    """Whether sshd answers on a port."""
    command = ["ssh-keyscan", "-T", "5", "-p", str(port), address]
    return "ssh-ed25519" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("user", ["root", "operator", "nobody"])
def test_keys_only(address, user):
    assert set(methods(address, user)) == {"publickey"}


def test_no_root_password_login(settings):
    assert settings["permitrootlogin"] in ("without-password", "prohibit-password")
    assert settings["passwordauthentication"] == "no"
    assert settings["kbdinteractiveauthentication"] == "no"
    assert settings["permitemptypasswords"] == "no"


def test_modern_algorithms(settings):
    offered = ",".join(settings[name] for name in ("kexalgorithms", "ciphers", "macs"))
    for weak in ("sha1", "cbc", "nistp", "umac-64", "group14", "md5", "arcfour"):
        assert weak not in offered, weak
    assert "curve25519-sha256" in settings["kexalgorithms"]
    assert "aes256-gcm@openssh.com" in settings["ciphers"]
    assert all("-etm@" in name for name in settings["macs"].split(","))


@pytest.mark.parametrize("key", ["ssh-ed25519", "rsa-sha2-512"])
def test_clients_of_the_last_five_years_get_in(address, key):
    assert methods(address, "root", f"HostKeyAlgorithms={key}", *CLIENT_OF_2021) == ["publickey"]


def test_the_strict_profile_wants_an_exchange_that_no_quantum_computer_breaks(address, play):
    play(sshd_profile="strict")
    try:
        assert methods(address, "root", *CLIENT_OF_2021) == []
        assert methods(address, "root", "KexAlgorithms=sntrup761x25519-sha512@openssh.com") == ["publickey"]
    finally:
        play()


def test_limits_and_forwarding(settings):
    assert settings["maxauthtries"] == "4"
    assert settings["maxsessions"] == "4"
    assert settings["logingracetime"] == "30"
    assert settings["tcpkeepalive"] == "no"
    assert settings["x11forwarding"] == "no"
    assert settings["allowagentforwarding"] == "no"
    assert settings["allowtcpforwarding"] == "local"


def test_the_drop_in_wins_over_others(host):
    other = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
    host.run(f"printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\n' > {other}")
    answer = host.check_output("/usr/sbin/sshd -T")
    host.run(f"rm {other}")
    assert "passwordauthentication no" in answer
    assert "permitrootlogin yes" not in answer


def test_the_file_is_checked_before_it_counts(host):
    assert host.run(f"/usr/sbin/sshd -t -f {DROP_IN}").rc == 0
    assert host.file(DROP_IN).mode == 0o600
    assert host.file("/run/sshd").is_directory


def test_a_missing_include_is_put_first(host):
    host.run("cp /etc/ssh/sshd_config /root/sshd_config.kept && sed -i '/^Include/d' /etc/ssh/sshd_config")
    arguments = "passwords=false root_login=prohibit-password port=22 owner=forge"
    first = host.ansible("groundwork.django.sshd_access", arguments, check=False)
    second = host.ansible("groundwork.django.sshd_access", arguments, check=False)
    text = host.file("/etc/ssh/sshd_config").content_string
    host.run("cat /root/sshd_config.kept > /etc/ssh/sshd_config; rm /root/sshd_config.kept")
    assert first["changed"]
    assert not second["changed"]
    assert text.startswith("Include /etc/ssh/sshd_config.d/*.conf\n")


@pytest.fixture
def access(host, address, tmp_path):
    """Function that runs the module over a real SSH login, with a key made for it, and returns what it said."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    host.check_output("mkdir -p -m 0700 ~root/.ssh && echo %s >> ~root/.ssh/authorized_keys", public)
    command = ["ansible", "all", "-i", f"{address},", "-u", "root", "--private-key", tmp_path / "key"]
    command += ["--ssh-common-args", "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"]

    def run(arguments):
        done = subprocess.run(
            [*command, "-m", "groundwork.django.sshd_access", "-a", arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    # The first run opens the connection that the others use.
    assert "SUCCESS" in run("passwords=false root_login=prohibit-password port=22 owner=forge")
    yield run
    host.check_output("sed -i %s ~root/.ssh/authorized_keys", f"\\|{public.split()[1]}|d")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("passwords=false root_login=no port=22 owner=forge", "sshd_permit_root_login"),
        ("passwords=false root_login=yes port=22 owner=forge allowed_users=operator", "sshd_allow_users"),
    ],
)
def test_who_runs_it_is_not_locked_out(access, arguments, named):
    assert named in access(arguments)


def test_passwords_stay_as_long_as_there_is_no_key(host, access):
    host.check_output("mv ~root/.ssh/authorized_keys ~root/.ssh/kept")
    said = access("passwords=false root_login=yes port=22 owner=forge")
    host.check_output("mv ~root/.ssh/kept ~root/.ssh/authorized_keys")
    assert "has no key on the host" in said


def test_a_changed_port_moves_sshd_without_cutting_sessions(host, access, address):
    """The open connection of `access` stays, and a new one comes in by the new port."""
    host.check_output(f"sed -i 's/^Port 22$/Port 2222/' {DROP_IN}")
    host.check_output("systemctl reload ssh")
    assert "SUCCESS" in access("passwords=false root_login=prohibit-password port=2222 owner=forge")
    moved = listens(address, 2222)
    host.check_output(f"sed -i 's/^Port 2222$/Port 22/' {DROP_IN}")
    host.check_output("systemctl reload ssh")
    assert moved


@pytest.fixture
def socket(host, play):
    """Have systemd listen for sshd in one test, as it does on Ubuntu."""
    host.check_output("systemctl disable --now ssh && systemctl enable --now ssh.socket")
    yield
    play()
    # The old one has to let go of the port before it is opened anew.
    host.check_output("systemctl disable --now ssh.socket && systemctl stop ssh && systemctl enable --now ssh")


def test_where_a_socket_listens_the_port_is_that_of_the_socket(host, socket, play, address):
    other_port = ("--extra-vars", '{"sshd_port": 2222}')
    play(*other_port)
    assert listens(address, 2222)
    assert host.check_output("systemctl is-active ssh.socket") == "active"
    assert not host.service("ssh").is_enabled
    assert play(*other_port).changed == 0
