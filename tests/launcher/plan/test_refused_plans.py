# ruff: noqa: E501  sentences are quoted whole, so that they can be searched for
"""What cannot be launched is refused in one sentence."""

import pytest


def test_more_workers_than_the_system_has_processes_are_refused(elrun):
    """Preparing a hundred million of them would take minutes, and start none."""
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        most = int(file.read())

    sentence = elrun.refusal("--nproc-per-node", str(most + 1), "x.py")

    assert (
        f"--nproc-per-node {most + 1}: this node can have {most:,} processes at once (kernel.pid_max)"
        == sentence
    )
    assert most == elrun.plan("--nproc-per-node", str(most), "x.py").config.nproc_per_node


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--nnodes 4:2", "--nnodes 4:2: the smaller number comes first, as in 2:4"),
        (
            "--nnodes 0",
            "--nnodes 0: a job takes at least 1 node; give a number such as 2, or MIN:MAX",
        ),
        (
            "--nnodes -1",
            "--nnodes -1: a job takes at least 1 node; give a number such as 2, or MIN:MAX",
        ),
        (
            "--nnodes two",
            "--nnodes two: give a number of nodes such as 2, or MIN:MAX such as 1:4",
        ),
        (
            "--nproc-per-node 0",
            "--nproc-per-node 0: give a number of workers, 1 or more, or auto, gpu, cpu or xpu",
        ),
        (
            "--nproc_per_node gpus",
            "--nproc-per-node gpus: give a number of workers, 1 or more, or auto, gpu, cpu or xpu; did you mean gpu?",
        ),
        ("--rdzv-conf a", "--rdzv-conf a: a is no setting; give key=value,key=value,…"),
        ("--rdzv-conf a=1,a=2", "--rdzv-conf a=1,a=2: a comes twice; give each setting once"),
        ("--master-port 70000", "--master-port 70000: give a port from 1 to 65535"),
        (
            "--rdzv-endpoint n1:70000",
            "--rdzv-endpoint n1:70000: '70000' is no port; give 0 to 65535",
        ),
        (
            "--max-restarts -1",
            "--max-restarts -1: give a whole number, 0 or more",
        ),
        ("--monitor-interval 0", "--monitor-interval 0: give a number of seconds, more than 0"),
        ("--shutdown-timeout -1", "--shutdown-timeout -1: give a number of seconds, 0 or more"),
        (
            "--start-method spwan",
            "--start-method spwan: give spawn, fork or forkserver; did you mean spawn?",
        ),
        ("--preload a-b", "--preload a-b: a-b is no module's name; give MODULE,MODULE,…"),
        (
            "--redirects 7",
            "--redirects 7: give 0 (no stream), 1 (standard output), 2 (standard error) or 3 (both) for all workers, or LOCAL_RANK:CODE pairs such as 0:1,10:3",
        ),
        ("--tee 0:1,0:2", "--tee 0:1,0:2: local rank 0 stands twice; name it once"),
        (
            "--local-ranks-filter a",
            "--local-ranks-filter a: give local ranks from 0 on, as in 0,1,2",
        ),
        (
            "--signals-to-handle SIGTRM",
            "--signals-to-handle SIGTRM: SIGTRM is no signal of this system; give names such as SIGTERM,SIGUSR1; did you mean SIGTERM?",
        ),
        (
            "--signals-to-handle SIGKILL",
            "--signals-to-handle SIGKILL: SIGKILL can't be handled by any process; give names such as SIGTERM,SIGUSR1",
        ),
        (
            "--signals-to-handle=,",
            "--signals-to-handle ,: name at least one signal, as in SIGTERM,SIGINT",
        ),
        (
            "--duplicate-stdout-filters a,",
            "--duplicate-stdout-filters a,: an empty word is in every line; give WORD,WORD,… (,, for a comma)",
        ),
        (
            "--numa-binding nodes",
            "--numa-binding nodes: give node, socket, exclusive or core-complex; did you mean node?",
        ),
        (
            "--event-log-handler nul",
            "--event-log-handler nul: there is no such handler; give null, console, file or file:PATH; did you mean null?",
        ),
        (
            "--log-dir x.py",
            "--log-dir x.py can't be used: it is a file; give a directory that you can write to",
        ),
        (
            "--log-dir x.py/logs",
            "--log-dir x.py/logs can't be used: Not a directory; give a directory that you can write to",
        ),
        (
            "--nproc-per-mode 2",
            "--nproc-per-mode is no option of elrun; did you mean --nproc-per-node?",
        ),
        (
            "--rdzv x",
            "--rdzv could be --rdzv-backend, --rdzv-endpoint, --rdzv-id or --rdzv-conf; write it out",
        ),
        ("--standalone=1", "--standalone takes no value, but was given 1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(elrun, options, sentence):
    """With the option, the value, and what would be right."""
    assert sentence == elrun.refusal(*options.split(), "x.py")


@pytest.mark.parametrize("args", [[], ["--nnodes", "1"], ["--"], ["-m"]])
def test_a_missing_script_is_refused(elrun, args):
    """With the usage, as that is all there is to say."""
    assert (
        "SCRIPT is missing; say what to run: elrun [OPTIONS] SCRIPT [ARGS]... "
        "(elrun --help says more)"
    ) == elrun.refusal(*args)


@pytest.mark.parametrize(
    ("text", "shown"), [("soon", "soon"), ("-1", "-1"), ("1.5s", "1.5s"), ("1 s", "'1 s'")]
)
def test_a_bad_variable_of_torch_is_refused_by_its_name(elrun, text, shown):
    """It is no option, but it is the user's; it is quoted where an option's value would be."""
    sentence = elrun.refusal("x.py", TORCH_ELASTIC_SHUTDOWN_TIMEOUT=text)

    assert f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={shown}: give a number of seconds, 0 or more" == (
        sentence
    )


def test_no_gpu_is_an_error_that_says_so(elrun):
    """Under the name of the option that asked for one."""

    def count(_kind, _variables):
        raise ValueError("this node has no GPU; give a number")

    elrun.count = count

    assert "--nproc-per-node gpu: this node has no GPU; give a number" == elrun.refusal(
        "--nproc-per-node", "gpu", "x.py"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hang-log-pattern", "step"), "no effect without --hang-timeout SECONDS; give both"),
        (("--hang-log-pattern", "step", "--hang-timeout", "5"), "does not see what workers print"),
        (("--hang-log-pattern", "(", "--tee", "3"), "give a regular expression, as of Python's re"),
    ],
)
def test_a_pattern_that_nothing_is_compared_with_is_refused(elrun, options, words):
    """The sentence says what is missing."""
    assert words in elrun.refusal(*options, "x.py", ELRUN_KEEP_STDERR="0")
