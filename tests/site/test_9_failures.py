"""What fails on the host while nobody looks is seen in the metrics."""

from __future__ import annotations

METRICS = "/var/lib/prometheus/node-exporter/groundwork_failures.prom"
FAIL = f"""
set -e
cd /etc/groundwork/backups
cp -p forge.conf /root/kept.conf
trap 'cp -p /root/kept.conf forge.conf' EXIT
sed -i 's/^reserve_megabytes.*/reserve_megabytes = 999999999/' forge.conf
! systemctl start forge-backup.service
timeout 30 sh -c 'until grep -s forge-backup {METRICS}; do sleep 0.2; done'
"""


def test_a_backup_that_fails_is_counted_and_noted(converged):
    assert 'groundwork_unit_failures_total{unit="forge-backup.service"} 1' in converged.shell(FAIL).splitlines()
    assert "forge-backup.service has failed" in converged.shell("journalctl -p err -o cat -t failure.py")
    converged.shell("systemctl start forge-backup.service")
