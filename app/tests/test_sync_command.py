"""sync_templates as an operator sees it."""


def test_failure_is_an_exit_code_and_a_sentence(manage, tmp_path, migrated_production):
    result = manage("sync_templates", str(tmp_path / "missing"), **migrated_production)
    assert result.returncode == 1
    assert result.stderr == f"CommandError: {tmp_path}/missing is not a directory: name one that holds the templates.\n"
    assert manage("sync_templates", **migrated_production).stdout.endswith(
        "12 created, 0 updated, 0 unchanged, 0 deactivated, 0 kept.\n"
    )
