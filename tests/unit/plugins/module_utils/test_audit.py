"""The audit log: a line for each event, and never the reason of a failure."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.groundwork.django.plugins.module_utils import audit
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site


def test_lines_are_added_and_only_the_owner_and_the_group_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "group_id", lambda name: None)
    monkeypatch.setattr(audit.os, "fchown", lambda *arguments: None)
    paths = dict.fromkeys(("directory", "run_directory", "static_directory"), str(tmp_path))
    site = Site({"name": "forge", "user": "root", "log_directory": str(tmp_path / "logs"), **paths})
    audit.note(site, "released", {"operator": "ada@laptop"}, 12.34, release="a", previous="")
    audit.note(site, "failed", {}, 1, release="b", step="probe")
    file = Path(site.log_directory, audit.FILE)
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["event"], first["operator"], first["seconds"], first["release"]) == (
        "released",
        "ada@laptop",
        12.3,
        "a",
    )
    assert (second["event"], second["step"]) == ("failed", "probe")
    assert file.stat().st_mode & 0o777 == 0o640
