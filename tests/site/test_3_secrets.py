"""No secret in any output: not with -vvv --diff, not in a process list, not in the journal."""

from __future__ import annotations

from machine import HOST, Run, hosts

SENTINELS = ("s3ntinel-alpha-7f1d", 's3ntinel beta "quoted" $HOME 9c2e')
# Samples every process list until its own file is removed, for ten minutes at most.
WATCH = """
touch /run/watching; end=$((SECONDS + 600))
while [ -e /run/watching ] && [ $SECONDS -lt $end ]; do
  cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; sleep 0.02
done >/root/process-lists
"""


def test_sentinel_secrets_show_up_in_no_output_process_list_or_journal(converged):
    converged.inventory(
        "forge",
        gunicorn_app_secrets={"SECRET_KEY": SENTINELS[0] * 3, "API_TOKEN": SENTINELS[1]},
        backups_physical_enabled=True,
        backups_passphrase=f"{SENTINELS[0]}-of-the-backups",
    )
    converged.shell("journalctl --rotate -q; date +%s >/root/since")
    hosts.docker("exec", "--detach", HOST, "bash", "-c", WATCH)
    first = converged.play("forge", "-vvv", "--diff")
    assert first.changes, "the new secrets made no new release, so nothing was tried"
    seen = [first, converged.play("forge", "-vvv", "--diff", "--check"), failed_release(converged)]
    converged.shell("rm /run/watching; sleep 0.5; test -s /root/process-lists")

    for sentinel in (SENTINELS[0], SENTINELS[1], "s3ntinel"):
        for run in seen:
            assert sentinel not in run.output
    journal = "journalctl --since @$(cat /root/since) --output export --all"
    assert int(converged.shell(f"{journal} | grep -a -c gunicorn || true")) > 0
    assert converged.shell(f"{journal} | grep -a -c s3ntinel || true").strip() == "0"
    assert int(converged.shell("grep -a -c gunicorn /root/process-lists || true")) > 0
    assert converged.shell("grep -a -c s3ntinel /root/process-lists || true").strip() == "0"


def failed_release(converged) -> Run:
    """A release that fails with the secrets at hand: its output must not hold them either."""
    kept = dict(converged.values["forge"])
    health = {"path": "/no-such-page", "retries": 1}
    converged.inventory("forge", gunicorn_app_health=health, gunicorn_app_threads=5)
    run = converged.play("forge", "-vvv", "--diff", ok=False)
    converged.values["forge"] = kept
    assert run.status != 0
    assert converged.get("/")[0] == 200
    return run


def test_no_file_that_others_can_read_holds_a_secret(converged):
    files = "find / -xdev -type f -perm /o=r -not -path '/proc/*' -not -path '/sys/*' -not -path '/usr/*' -size -4M"
    found = converged.shell(f"{files} -print0 | xargs -0 grep -l -a s3ntinel 2>/dev/null | grep -v /root/ || true")
    assert found.strip() == ""
