"""The way in: who would be locked out, and where the include stands."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.modules import sshd_access

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIO96I1aOPjlTFsmicOQJYTG89jmBrf3jqZk3vW10eDVi"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n", True),
        ("# comment\n\ninclude /etc/ssh/sshd_config.d/*.conf\n", True),
        ("Include /etc/ssh/first.conf /etc/ssh/sshd_config.d/*.conf\n", True),
        ("PasswordAuthentication yes\nInclude /etc/ssh/sshd_config.d/*.conf\n", False),
        ("#Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n", False),
        ("", False),
    ],
)
def test_the_include_comes_first(text, first):
    assert sshd_access.has_first_include(text) is first


@pytest.mark.parametrize(
    ("listing", "name"),
    [
        ("", ""),
        ('LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n', ""),
        ('LISTEN 0 4096 *:22 *:* users:(("sshd",pid=9,fd=3),("systemd",pid=1,fd=51))\n', ""),
        ('LISTEN 0 511 0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=7,fd=6),("nginx",pid=6,fd=6))\n', "nginx"),
    ],
)
def test_a_port_that_somebody_else_has_is_noticed(monkeypatch, listing, name):
    monkeypatch.setattr(sshd_access, "run", lambda _command: (0, listing, ""))
    assert sshd_access.taken_by(443) == name


@pytest.mark.parametrize(
    ("user", "passwords", "root_login", "allowed", "keyed", "named"),
    [
        ("root", False, "prohibit-password", [], True, None),
        ("root", False, "no", [], True, "sshd_permit_root_login"),
        ("root", True, "no", [], True, "sshd_permit_root_login"),
        ("root", True, "prohibit-password", [], True, None),
        ("op", False, "no", [], True, None),
        ("op", False, "no", [], False, "ssh-copy-id"),
        ("op", True, "no", [], False, None),
        ("op", False, "no", ["root"], True, "sshd_allow_users"),
        ("op", False, "no", ["op@192.0.2.*"], True, None),
        ("op", False, "no", ["o*"], True, None),
    ],
)
def test_who_would_be_locked_out(user, passwords, root_login, allowed, keyed, named):
    sentence = sshd_access.lock_out(user, passwords, root_login, allowed, lambda _user: keyed)
    assert (named in sentence) if named else sentence is None


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        (f"ssh-ed25519 {KEY} me\n", True),
        (f'from="192.0.2.1",no-pty ssh-ed25519 {KEY}\n', True),
        (f"sk-ssh-ed25519@openssh.com {KEY}\n", True),
        (f"# ssh-ed25519 {KEY}\n", False),
        ("ssh-ed25519 AAAA...\n", False),
        ("", False),
    ],
)
def test_what_is_a_key(text, is_key):
    assert bool(sshd_access.KEY.search(text)) is is_key


@pytest.mark.parametrize(
    ("config", "rules", "closed"),
    [
        ("ENABLED=no\n", "", False),
        ("ENABLED=yes\n", "", True),
        ("ENABLED=yes\n", "### tuple ### limit tcp 2222 0.0.0.0/0 any 0.0.0.0/0 in\n", False),
        ("ENABLED=yes\n", "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n", True),
    ],
)
def test_a_port_that_the_firewall_does_not_know(monkeypatch, config, rules, closed):
    monkeypatch.setattr(sshd_access, "read_text", {sshd_access.UFW_CONFIG: config, sshd_access.UFW_RULES: rules}.get)
    assert sshd_access.port_is_closed(2222) is closed


OWN = "/etc/ssh/sshd_config.d/00-groundwork.conf"
OTHER = "/etc/ssh/sshd_config.d/60-x.conf"
ENDS = "terminating, 1 bad configuration options"


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (0, "", ""),
        (0, f"{OTHER} line 1: Deprecated option UsePrivilegeSeparation\n", ""),
        (255, f"{OTHER}: line 1: Bad configuration option: No\n{OTHER}: {ENDS}\n", f"{OTHER}: line 1: Bad"),
        (255, f"{OWN}: line 9: Bad configuration option: No\n{OWN}: {ENDS}\n", ""),
        (
            255,
            f"{OTHER} line 1: Deprecated option Use\n{OWN}: line 9: Bad configuration option: No\n{OWN}: {ENDS}\n",
            "",
        ),
        (255, "sshd: no hostkeys available -- exiting.\n", "sshd: no hostkeys available -- exiting"),
    ],
)
def test_what_sshd_has_against_the_files_of_others(monkeypatch, code, said, told):
    monkeypatch.setattr(sshd_access, "run", lambda _command: (code, "", said))
    assert sshd_access.refused(OWN).startswith(told)
    assert bool(sshd_access.refused(OWN)) is bool(told)
