"""How long workers have when elrun is told to stop."""

import pytest
from elrun.agent.elastic.deadlines import workers_share
from elrun.launcher.plan.time_limits import slurm_kill_wait_s


@pytest.mark.parametrize(("left_s", "share_s"), [(30, 25), (300, 295), (5, 4), (0, 0)])
def test_the_agent_needs_a_part_of_the_time(left_s, share_s):
    """To end what is left, and to say how the job ended."""
    assert share_s == workers_share(left_s)


@pytest.mark.parametrize(
    ("options", "variables", "seconds"),
    [
        ("", {}, 30),
        ("--grace 60", {}, 55),
        ("--grace 60 --shutdown-timeout 20", {}, 20),
        ("--grace 60 --shutdown-timeout 90", {}, 55),
        ("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 25),
        ("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PET_GRACE": "300"}, 295),
        ("--shutdown-timeout 40", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 40),
        ("", {"SLURM_JOB_ID": "7", "SLURM_CONF": "KillWait=10"}, 8),
        ("", {"SLURM_JOB_ID": "7", "SLURM_CONF": "KillWait=600"}, 30),
        ("", {"SLURM_JOB_ID": "7", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "44"}, 44),
    ],
)
def test_workers_have_what_is_left(elrun, tmp_path, options, variables, seconds):
    """What the user says goes first, then what the scheduler leaves."""
    if "SLURM_CONF" in variables:
        conf = tmp_path / "slurm.conf"
        conf.write_text(f"ClusterName=c\n{variables['SLURM_CONF']} # s\n")
        variables = {**variables, "SLURM_CONF": str(conf)}

    plan = elrun.plan(*options.split(), "x.py", **variables)

    assert seconds == plan.config.shutdown_timeout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("KillWait=5\n", 5),
        ("killwait = 7\nKillWait=9", 9),
        ("#KillWait=5\n", 30),
        ("KillWait=x", 30),
    ],
)
def test_slurm_s_configuration_says_how_long_it_waits(tmp_path, text, seconds):
    """The last line counts; without one it is SLURM's default."""
    conf = tmp_path / "slurm.conf"
    conf.write_text(text)

    assert seconds == slurm_kill_wait_s({"SLURM_CONF": str(conf)})


def test_without_a_configuration_slurm_s_default_holds(tmp_path):
    """A node may have none."""
    assert 30 == slurm_kill_wait_s({"SLURM_CONF": str(tmp_path / "none")})


def test_a_signal_is_not_forwarded_by_default_if_it_preempts(elrun):
    """Under a scheduler USR1 and USR2 go to workers and the job goes on; one means more now."""
    plan = elrun.plan("--preempt-signal=USR1", "x.py", SLURM_JOB_ID="7")

    assert ("SIGUSR2", "USR1") == (plan.config.forward_signals, plan.config.preempt_signal)


def test_a_signal_can_not_both_go_on_and_end(elrun):
    """The user has to say which it is."""
    refusal = elrun.refusal("--preempt-signal=USR1", "--forward-signals=USR1", "x.py")

    assert "SIGUSR1 preempts the job, so it can't be forwarded as well" in refusal
