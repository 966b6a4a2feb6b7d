"""Check mode on the converged host: part of every scenario."""


def test_check_mode_reports_no_change_on_a_converged_host(play):
    run = play("--check", "--diff")
    assert run.changed == 0, run.output
