"""What the service module decides, with a systemctl that is made up, on real files."""

import os
import time
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import service

LATER = 50


class Systemd:
    """Units in a dictionary, and the commands that were run."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.log: list[str] = []
        self.fail: dict[str, str] = {}
        self.dies: set[str] = set()
        self.count = 0

    def add(self, name: str, **properties: str) -> None:
        base = {
            "ActiveState": "inactive",
            "CanReload": "yes",
            "InvocationID": "",
            "LoadState": "loaded",
            "NRestarts": "0",
            "NeedDaemonReload": "no",
            "RemainAfterExit": "no",
            "Result": "success",
            "SubState": "dead",
            "Type": "notify",
            "UnitFileState": "disabled",
        }
        self.units[name] = {**base, **properties}

    def begin(self, name: str) -> None:
        """Make a unit active, with an invocation of its own, from now on."""
        self.count += 1
        ticks = str(int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1_000_000))
        state = "failed" if name in self.dies else "active"
        state = "inactive" if self.units[name]["Type"] == "oneshot" and state == "active" else state
        self.units[name].update(
            ActiveState=state,
            InvocationID=f"{self.count:032x}",
            ExecMainStartTimestampMonotonic=ticks,
            ActiveEnterTimestampMonotonic=ticks,
        )

    def run(self, command: list[str], timeout: float | None = None) -> tuple[int, str, str]:
        if command[:2] == ["systemctl", "show"]:
            missing = {"LoadState": "not-found", "ActiveState": "inactive", "NeedDaemonReload": "no"}
            missing |= {"UnitFileState": "", "InvocationID": ""}
            blocks = [self.units.get(name, missing) for name in command[command.index("--") + 1 :]]
            return 0, "\n\n".join("\n".join(f"{k}={v}" for k, v in block.items()) for block in blocks) + "\n", ""
        if command[0] == "journalctl":
            return 0, "line of the journal\n", ""
        text = " ".join(word for word in command if word != "--").removeprefix("systemctl ")
        self.log.append(text)
        if text in self.fail:
            return 1, "", self.fail[text]
        verb, _, name = text.partition(" ")
        if text == "daemon-reload":
            for unit in self.units.values():
                unit["NeedDaemonReload"] = "no"
        elif verb in ("start", "restart"):
            self.begin(name)
        elif verb == "stop":
            self.units[name]["ActiveState"] = "inactive"
        elif verb in ("enable", "disable"):
            for each in name.split():
                self.units[each]["UnitFileState"] = f"{verb}d"
        return 0, "", ""


@pytest.fixture
def systemd(monkeypatch, tmp_path) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(service, "run", made.run)
    monkeypatch.setattr(service, "STAMPS", str(tmp_path / "loaded"))
    monkeypatch.setattr(service, "SETTLE", 0.001)
    return made


@pytest.fixture
def conf(tmp_path) -> Path:
    path = tmp_path / "conf"
    path.mkdir()
    (path / "a.conf").write_text("a = 1\n")
    return path


def keep(*units: dict, check: bool = False, timeout: int = 1) -> list[str]:
    return service.keep(list(units), timeout, check)


def running(systemd: Systemd, name: str, **properties: str) -> None:
    systemd.add(name, UnitFileState="enabled", **properties)
    systemd.begin(name)


def age(path: Path, monkeypatch, seconds: float) -> None:
    """Let files look as if they had been changed `seconds` after now: a change time cannot be set."""
    real = os.stat

    def stat(name, *arguments, **more):
        info = real(name, *arguments, **more)
        if str(name) != str(path):
            return info
        values = list(info)
        values[8] = values[9] = info.st_ctime + seconds
        return os.stat_result(values)

    monkeypatch.setattr(service.os, "stat", stat)


def test_a_new_unit_is_enabled_and_started_once(systemd):
    systemd.add("web.service")
    assert keep({"name": "web"}) == ["web.service: enable", "web.service: start"]
    assert systemd.log == ["enable web.service", "start web.service"]
    assert keep({"name": "web"}) == []
    assert len(systemd.log) == 2


def test_units_are_enabled_by_one_command_and_disabled_by_another(systemd):
    for name in ("a.timer", "b.timer"):
        systemd.add(name)
    for name in ("c.timer", "d.timer"):
        running(systemd, name)
    wanted = [{"name": name} for name in ("a.timer", "b.timer")]
    unwanted = [{"name": name, "state": "stopped", "enabled": False} for name in ("c.timer", "d.timer")]
    expected = [
        *("a.timer: enable", "b.timer: enable", "a.timer: start", "b.timer: start"),
        *("c.timer: stop", "d.timer: stop", "c.timer: disable", "d.timer: disable"),
    ]
    assert keep(*wanted, *unwanted, check=True) == expected
    assert systemd.log == []
    assert keep(*wanted, *unwanted) == expected
    assert systemd.log == [
        *("enable a.timer b.timer", "start a.timer", "start b.timer"),
        *("stop c.timer", "stop d.timer", "disable c.timer d.timer"),
    ]
    assert keep(*wanted, *unwanted) == []


def test_check_mode_says_the_same_and_does_nothing(systemd, conf):
    systemd.add("web.service", NeedDaemonReload="yes")
    unit = {"name": "web", "restart_on": [str(conf)], "validate": "false"}
    expected = ["daemon-reload", "web.service: enable", "web.service: start"]
    assert keep(unit, check=True) == expected
    assert systemd.log == []
    assert not Path(service.STAMPS).exists()


def test_a_unit_that_is_missing_is_a_change_in_check_mode_only(systemd):
    assert keep({"name": "web"}, check=True) == ["web.service: enable", "web.service: start"]
    with pytest.raises(Refusal, match=r"There is no unit web\.service on the host"):
        keep({"name": "web"})


def test_a_changed_file_is_loaded_once(systemd, conf):
    running(systemd, "web.service")
    unit = {"name": "web.service", "reload_on": [str(conf)]}
    keep(unit)
    systemd.log.clear()
    (conf / "a.conf").write_text("a = 2\n")
    assert keep(unit, check=True) == ["web.service: reload"]
    assert keep(unit) == ["web.service: reload"]
    assert keep(unit) == []
    assert systemd.log == ["reload web.service"]


@pytest.mark.parametrize("change", ["new", "gone", "nested"])
def test_a_directory_is_watched_with_all_below(systemd, conf, change):
    running(systemd, "web.service")
    unit = {"name": "web.service", "reload_on": [str(conf)]}
    (conf / "sub").mkdir()
    (conf / "sub" / "b.conf").write_text("b\n")
    keep(unit)
    if change == "new":
        (conf / "c.conf").write_text("c\n")
    elif change == "gone":
        (conf / "a.conf").unlink()
    else:
        (conf / "sub" / "b.conf").write_text("b2\n")
    assert keep(unit) == ["web.service: reload"]


def test_patterns_links_and_missing_paths_are_watched(systemd, conf, tmp_path):
    running(systemd, "web.service")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "cert.pem").write_text("1")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "cert.pem").write_text("2")
    (conf / "current").symlink_to(tmp_path / "one")
    (conf / "loop").symlink_to(conf)
    unit = {"name": "web.service", "reload_on": [str(conf), str(tmp_path / "*.txt"), str(tmp_path / "missing")]}
    keep(unit)
    assert keep(unit) == []
    (conf / "current").unlink()
    (conf / "current").symlink_to(tmp_path / "two")
    assert keep(unit) == ["web.service: reload"]
    (tmp_path / "x.txt").write_text("x")
    assert keep(unit) == ["web.service: reload"]
    (tmp_path / "missing").write_text("x")
    assert keep(unit) == ["web.service: reload"]


def test_temporary_directories_are_not_watched(systemd, conf):
    running(systemd, "web.service")
    unit = {"name": "web.service", "reload_on": [str(conf)]}
    keep(unit)
    (conf / f"{service.STAGE_PREFIX}1-ab").mkdir()
    assert keep(unit) == []


def test_restart_beats_reload(systemd, conf):
    running(systemd, "web.service")
    unit = {"name": "web.service", "restart_on": [str(conf)], "reload_on": [str(conf)]}
    keep(unit)
    (conf / "a.conf").write_text("a = 2\n")
    assert keep(unit) == ["web.service: restart"]
    assert keep(unit) == []


def test_a_unit_that_cannot_reload_is_restarted(systemd, conf):
    running(systemd, "web.service", CanReload="no")
    unit = {"name": "web.service", "reload_on": [str(conf)]}
    keep(unit)
    (conf / "a.conf").write_text("a = 2\n")
    assert keep(unit) == ["web.service: restart"]


def test_started_after_the_last_change_is_current(systemd, conf):
    time.sleep(service.TICK * 2)
    running(systemd, "web.service")
    assert keep({"name": "web.service", "reload_on": [str(conf / "a.conf")]}) == []


@pytest.mark.parametrize(("key", "verb"), [("reload_on", "reload"), ("restart_on", "restart")])
def test_started_before_the_last_change_is_repaired(systemd, conf, monkeypatch, key, verb):
    """What a run that was killed before this module leaves behind."""
    running(systemd, "web.service")
    age(conf / "a.conf", monkeypatch, LATER)
    assert keep({"name": "web.service", key: [str(conf / "a.conf")]}) == [f"web.service: {verb}"]


def test_a_restart_by_hand_counts(systemd, conf):
    running(systemd, "web.service")
    unit = {"name": "web.service", "reload_on": [str(conf)]}
    keep(unit)
    (conf / "a.conf").write_text("a = 2\n")
    time.sleep(service.TICK * 2)
    systemd.begin("web.service")
    assert keep(unit) == []
    (conf / "a.conf").write_text("a = 3\n")
    assert keep(unit) == ["web.service: reload"]


def test_runs_with_other_patterns_do_not_disturb_each_other(systemd, conf):
    """Two sites share one nginx, each names its own files."""
    running(systemd, "nginx.service")
    (conf / "one").write_text("1")
    (conf / "two").write_text("1")
    one = {"name": "nginx", "reload_on": [str(conf / "one")]}
    two = {"name": "nginx", "reload_on": [str(conf / "two")]}
    keep(one)
    keep(two)
    time.sleep(service.TICK * 2)
    (conf / "one").write_text("2")
    time.sleep(service.TICK * 2)
    assert keep(one) == ["nginx.service: reload"]
    time.sleep(service.TICK * 2)
    for _ in range(2):
        assert keep(two) == []
        assert keep(one) == []
    (conf / "two").write_text("2")
    assert keep(two) == ["nginx.service: reload"]


def test_daemon_reload_where_systemd_asks_for_it(systemd):
    running(systemd, "web.service", NeedDaemonReload="yes")
    assert keep({"name": "web"}) == ["daemon-reload"]
    assert keep({"name": "web"}) == []


def test_validators_run_before_any_unit_is_touched(systemd, conf):
    running(systemd, "one.service")
    running(systemd, "two.service")
    units = [
        {"name": "one", "restart_on": [str(conf)]},
        {"name": "two", "restart_on": [str(conf)], "validate": ["check", "two words"]},
    ]
    keep(*units)
    (conf / "a.conf").write_text("a = 2\n")
    systemd.log.clear()
    systemd.fail["check two words"] = "line 3 is wrong\n"
    with pytest.raises(Refusal) as refusal:
        keep(*units)
    assert "two.service was left as it is, because `check 'two words'` failed (exit 1): line 3" in str(refusal.value)
    assert systemd.log == ["check two words"]
    systemd.fail.clear()
    assert keep(*units) == ["one.service: restart", "two.service: restart"]


def test_validator_does_not_run_for_nothing(systemd):
    running(systemd, "web.service")
    systemd.fail["check"] = "never"
    assert keep({"name": "web", "validate": "check"}) == []
    assert systemd.log == []


def test_validator_that_always_runs_tells_of_what_a_newer_version_refuses(systemd):
    running(systemd, "web.service")
    unit = {"name": "web", "validate": "check", "validate_always": True}
    assert keep(unit) == []
    systemd.fail["check"] = "no such option any more"
    with pytest.raises(service.Unusable, match=r"web\.service was left as it is.*no such option any more"):
        keep(unit)


def test_stopped_and_disabled(systemd):
    running(systemd, "web.service")
    unit = {"name": "web", "state": "stopped", "enabled": False}
    assert keep(unit) == ["web.service: stop", "web.service: disable"]
    assert keep(unit) == []
    assert keep({"name": "never-there", "state": "stopped", "enabled": False}) == []


@pytest.mark.parametrize(("state", "actions"), [("inactive", ["web.service: disable"]), ("active", []), ("failed", [])])
def test_a_unit_that_somebody_uses_can_be_spared(systemd, state, actions):
    systemd.add("web.service", ActiveState=state, UnitFileState="enabled")
    assert keep({"name": "web", "state": "stopped", "enabled": False, "unless_used": True}) == actions


def test_a_unit_that_nobody_uses_can_be_left_alone(systemd, conf):
    systemd.add("web.socket", Type="", CanReload="no")
    unit = {"name": "web.socket", "if_used": True, "restart_on": [str(conf)]}
    assert keep(unit) == []
    running(systemd, "web.socket", Type="", CanReload="no")
    keep(unit)
    (conf / "a.conf").write_text("b")
    assert keep(unit) == ["web.socket: restart"]


def test_a_unit_can_be_kept_as_it_is_with_its_files_read_anew(systemd):
    running(systemd, "web.service")
    systemd.units["web.service"]["UnitFileState"] = "disabled"
    kept = {"name": "web", "state": "kept"}
    assert keep(kept) == []
    systemd.units["web.service"]["NeedDaemonReload"] = "yes"
    assert keep(kept) == ["daemon-reload"]
    assert keep({"name": "gone", "state": "kept"}) == []


@pytest.mark.parametrize(
    ("state", "unit_file", "actions"),
    [
        ("inactive", "disabled", ["web.service: enable"]),
        ("inactive", "enabled", []),
        ("active", "disabled", []),
        ("active", "enabled", ["web.service: disable"]),
    ],
)
def test_a_unit_that_a_socket_starts_is_not_enabled_by_itself(systemd, state, unit_file, actions):
    running(systemd, "web.service")
    systemd.units["web.service"]["UnitFileState"] = unit_file
    systemd.add("web.socket", ActiveState=state)
    assert keep({"name": "web", "activated_by": "web.socket"}) == actions


@pytest.mark.parametrize(("accept", "around"), [("no", True), ("yes", False)])
def test_a_socket_is_opened_anew_without_its_service(systemd, conf, accept, around):
    running(systemd, "web.service")
    running(systemd, "web.socket", Type="", CanReload="no", Accept=accept, Triggers="web.service")
    unit = {"name": "web.socket", "restart_on": [str(conf)]}
    keep(unit)
    (conf / "a.conf").write_text("b")
    systemd.log.clear()
    assert keep(unit) == ["web.socket: restart"]
    restart = ["restart web.socket"]
    assert systemd.log == (["stop web.service", *restart, "start web.service"] if around else restart)


def test_a_unit_that_a_socket_starts_is_never_reloaded(systemd, conf):
    running(systemd, "web.service")
    systemd.add("web.socket", ActiveState="active")
    unit = {"name": "web", "activated_by": "web.socket", "reload_on": [str(conf)], "enabled": False}
    keep(unit)
    (conf / "a.conf").write_text("b")
    assert keep(unit) == ["web.service: restart"]


def test_a_unit_that_a_socket_starts_is_left_to_it(systemd):
    systemd.add("web.service")
    systemd.add("web.socket", ActiveState="active")
    assert keep({"name": "web", "activated_by": "web.socket"}) == []


def test_a_unit_without_install_section_is_started(systemd):
    systemd.add("web.service", UnitFileState="static")
    assert keep({"name": "web"}) == ["web.service: start"]


def test_a_timer_is_restarted_when_its_file_changed(systemd, conf):
    running(systemd, "web.timer", Type="", CanReload="no")
    unit = {"name": "web.timer", "restart_on": [str(conf)]}
    keep(unit)
    (conf / "a.conf").write_text("b")
    assert keep(unit) == ["web.timer: restart"]


def test_a_oneshot_runs_once_and_after_each_change(systemd, conf):
    systemd.add("job.service", Type="oneshot", UnitFileState="static")
    unit = {"name": "job", "restart_on": [str(conf)]}
    assert keep(unit) == ["job.service: start"]
    assert keep(unit) == []
    (conf / "a.conf").write_text("b")
    assert keep(unit) == ["job.service: start"]
    assert keep(unit) == []
    systemd.units["job.service"]["ActiveState"] = "failed"
    assert keep(unit) == ["job.service: start"]


@pytest.mark.parametrize("state", ["masked", "bad-setting"])
def test_a_unit_that_cannot_be_loaded_is_named(systemd, state):
    systemd.add("web.service", LoadState=state, LoadError="Invalid argument")
    with pytest.raises(Refusal, match=r"web\.service (is masked|cannot be loaded)"):
        keep({"name": "web"})


def test_a_failing_start_shows_the_journal(systemd):
    systemd.add("web.service")
    systemd.fail["start web.service"] = "Job for web.service failed.\nSee journalctl.\n"
    with pytest.raises(Refusal) as refusal:
        keep({"name": "web"})
    assert str(refusal.value).splitlines()[0] == "systemctl could not start web.service: Job for web.service failed."
    assert str(refusal.value).endswith("line of the journal")


def test_a_unit_that_dies_at_once_is_noticed(systemd):
    systemd.add("web.service")
    systemd.dies.add("web.service")
    with pytest.raises(Refusal, match=r"web\.service did not become active, it is failed"):
        keep({"name": "web"})
    systemd.dies.clear()
    assert keep({"name": "web"}) == ["web.service: start"]
    assert "reset-failed web.service" in systemd.log


def test_a_unit_that_never_gets_ready_is_noticed(systemd):
    running(systemd, "web.service")
    systemd.units["web.service"].update(ActiveState="activating", SubState="auto-restart")
    with pytest.raises(Refusal, match=r"web\.service did not become active, it is activating \(auto-restart"):
        keep({"name": "web"}, timeout=0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nginx", "nginx.service"),
        ("ssh.socket", "ssh.socket"),
        ("forge@blue", "forge@blue.service"),
        ("backup.forge", "backup.forge.service"),
    ],
)
def test_names(given, expected):
    assert service.full_name(given) == expected


@pytest.mark.parametrize("name", ["", "a b", "../x", "--now"])
def test_wrong_names(name):
    with pytest.raises(Refusal, match="is not the name of a unit"):
        service.full_name(name)


@pytest.mark.parametrize(
    ("unit", "folder"), [("web.service", "web.service.d"), ("site@blue.service", "site@.service.d")]
)
def test_first_drop_in_of_a_directory_is_seen_where_systemd_does_not_tell(systemd, tmp_path, monkeypatch, unit, folder):
    monkeypatch.setattr(service, "UNIT_FILES", str(tmp_path / "system"))
    drop_in = tmp_path / "system" / folder / "groundwork.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n")
    running(systemd, unit, DropInPaths="")
    assert keep({"name": unit}) == ["daemon-reload"]
    systemd.units[unit]["DropInPaths"] = str(drop_in)
    assert keep({"name": unit}) == []


def test_a_unit_that_its_own_condition_rules_out_is_left_alone(systemd, conf):
    ruled_out = {"ConditionResult": "no", "ConditionTimestampMonotonic": "5", "UnitFileState": "static"}
    systemd.add("apparmor.service", **ruled_out)
    assert keep({"name": "apparmor", "conditional": True}) == []
    with pytest.raises(Refusal, match="did not become active"):
        systemd.begin = lambda name: None
        keep({"name": "apparmor"})


def test_a_condition_that_was_not_looked_at_yet_is_looked_at_by_starting_the_unit(systemd, conf):
    systemd.add("apparmor.service", ConditionResult="no", ConditionTimestampMonotonic="0", UnitFileState="static")
    systemd.begin = lambda name: systemd.units[name].update(ConditionTimestampMonotonic="7")
    assert keep({"name": "apparmor", "conditional": True}) == ["apparmor.service: start"]
    assert keep({"name": "apparmor", "conditional": True}) == []
