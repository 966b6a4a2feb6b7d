"""Check mode on the converged host: part of every scenario."""

import os
import re
import subprocess
from pathlib import Path


def test_check_mode_reports_no_change_on_a_converged_host():
    playbook = os.environ.get("LAB_CONVERGE") or Path(__file__).with_name("converge.yml")
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", str(inventory), "--check", "--diff", str(playbook)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.findall(r"changed=(\d+)", run.stdout) == ["0"], run.stdout
