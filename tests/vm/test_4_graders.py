"""What graders say that need a kernel of the machine's own."""

from __future__ import annotations

import re
import subprocess

from virtual import HOST, LOGS, VirtualMachine

LYNIS = "/root/lynis"
PARTS = "usr/share/lynis usr/sbin/lynis etc/lynis"


def test_lynis_gives_85(converged: VirtualMachine, record):
    # It is in the container that runs the machine, and is copied there for this once.
    take = ["docker", "exec", HOST, "tar", "-C", "/", "-cf", "-", *PARTS.split()]
    with subprocess.Popen(take, stdout=subprocess.PIPE) as packed:
        converged.receive(packed.stdout, f"mkdir {LYNIS} && tar -C {LYNIS} -xf -")
    place = f"{LYNIS}/usr/share/lynis"
    converged.shell(f"cp {LYNIS}/usr/sbin/lynis {place}/ && mkdir -p {place}/plugins")
    try:
        audit = f"./lynis audit system --quick --no-colors --profile {LYNIS}/etc/lynis/default.prf"
        said = converged.shell(f"cd {place} && {audit}", 900)
        (LOGS / "lynis.txt").write_text(said + converged.shell("cat /var/log/lynis.log"), encoding="utf-8")
    finally:
        converged.shell(f"rm -rf {LYNIS} /var/log/lynis*")
    index = int(re.search(r"Hardening index : (\d+)", said)[1])
    record.figures["Lynis"] = str(index)
    assert index >= 85


def test_the_sandboxes_are_as_tight_as_in_a_container(converged: VirtualMachine, record):
    shipped = converged.shell("cd /etc/systemd/system && grep -l groundwork.django *.service").split()
    units = [unit.replace("@.", "@x.") for unit in shipped]
    levels = converged.shell(f"for unit in {' '.join(units)}; do systemd-analyze security --no-pager $unit; done | cat")
    exposures = {name: float(level) for name, level in re.findall(r"exposure level for (\S+): ([0-9.]+)", levels)}
    assert len(exposures) == len(units)
    worst = max(exposures, key=exposures.get)
    site = max(level for name, level in exposures.items() if name.startswith("forge@"))
    record.figures["`systemd-analyze security`, gunicorn"] = f"{site}"
    record.figures[f"`systemd-analyze security`, the other {len(units) - 3}"] = f"at most {exposures[worst]} ({worst})"
    assert site <= 1.5
    assert exposures[worst] <= 3.0
