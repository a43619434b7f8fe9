"""Workers that are bound to CPUs, on the CPUs that this machine has."""

import multiprocessing
import os
import sys

import pytest
import worker_functions
import worker_kit
from elrun.agent.elastic.local import LocalElasticAgent
from elrun.agent.hardware.numa import AffinityMode, CpuBinding, NumaOptions
from elrun.agent.hardware.topology import NumaNode, Topology
from elrun.agent.preload.executor import PreloadedExecutor
from elrun.agent.preload.preload import Preloading
from elrun.agent.processes.guardian import Guardian
from elrun.agent.processes.start import start_processes
from elrun.agent.workers.worker import WorkerSpec
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.solo import create_standalone

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU only"),
]

ALL = frozenset(os.sched_getaffinity(0))
FIRST, SECOND = (frozenset({cpu}) for cpu in (min(ALL), max(ALL)))
SAY_CPUS = """
import os, sys, threading
def say():
    how = "forked" if "colorsys" in sys.modules else "executed"
    cpus = sorted(os.sched_getaffinity(0))
    open({path!r}, "a").write(f"{{os.environ['RANK']}} {{how}} {{cpus}}\\n")
thread = threading.Thread(target=say)
thread.start()
thread.join()
"""


def each_gpu_at_a_cpu_of_its_own(gpus=(0, 1)):
    """Pretend that the first two CPUs are nodes with a GPU each."""
    nodes = {0: NumaNode(FIRST, {0: 10, 1: 20}), 1: NumaNode(SECOND, {0: 20, 1: 10})}
    return Topology(ALL, nodes, [ALL], [FIRST, SECOND], [ALL], gpus)


@pytest.fixture(name="binding")
def _binding():
    options = NumaOptions(AffinityMode.NODE, should_fall_back_if_binding_fails=True)
    return CpuBinding(options, each_gpu_at_a_cpu_of_its_own)


def said(path):
    return sorted(path.read_text().splitlines())


def start_commands(program, **options):
    return start_processes(
        name="trainer",
        entrypoint=sys.executable,
        args=dict.fromkeys(range(2), (program,)),
        envs={rank: {"RANK": str(rank)} for rank in range(2)},
        logs_specs=worker_kit.Logs(),
        **options,
    )


def test_a_command_is_bound_before_it_runs(binding, tmp_path):
    """So are the threads that it starts; the agent itself is not."""
    script = tmp_path / "script.py"
    script.write_text(SAY_CPUS.format(path=str(tmp_path / "said")))

    context = start_commands(str(script), binding=binding)
    result = context.wait()
    context.close()

    assert not result.is_failed()
    expected = [f"0 executed {sorted(FIRST)}", f"1 executed {sorted(SECOND)}"]
    assert expected == said(tmp_path / "said")
    assert ALL == os.sched_getaffinity(0)


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_a_function_is_bound_before_it_runs(binding, start_method):
    """However it gets into its process; the server that forks is not."""

    def start(**options):
        context = start_processes(
            name="trainer",
            entrypoint=worker_functions.return_cpus,
            args={0: (), 1: ()},
            envs={0: {}, 1: {}},
            logs_specs=worker_kit.Logs(),
            start_method=start_method,
            **options,
        )
        result = context.wait()
        context.close()
        return result.return_values

    assert {0: FIRST, 1: SECOND} == start(binding=binding)
    assert {0: ALL, 1: ALL} == start()


@pytest.mark.parametrize("how", ["forked", "executed"])
def test_a_preloaded_worker_is_bound_before_it_runs(binding, tmp_path, how):
    """Also one that is executed instead; the process that imports the modules is not."""
    script = tmp_path / "script.py"
    script.write_text(SAY_CPUS.format(path=str(tmp_path / "said")))
    guardian = Guardian.start()
    command = [sys.executable, str(script)]
    preloading = Preloading(["colorsys"], command, dict(os.environ), guardian)
    try:
        worker_kit.wait_until(preloading.is_settled)
        if how == "executed":
            preloading.give_up("it is not wanted")
        context = start_commands(
            str(script),
            binding=binding,
            guardian=guardian,
            executor=PreloadedExecutor(preloading),
        )
        context.wait()
        context.close()
        free = os.sched_getaffinity(preloading.pid)
    finally:
        preloading.close()
        guardian.release()

    expected = [f"0 {how} {sorted(FIRST)}", f"1 {how} {sorted(SECOND)}"]
    assert expected == said(tmp_path / "said")
    assert ALL == free


def test_a_worker_without_cpus_of_its_own_may_use_any(tmp_path):
    """Where it may: its neighbour is bound."""
    options = NumaOptions(AffinityMode.NODE, should_fall_back_if_binding_fails=True)
    binding = CpuBinding(options, lambda: each_gpu_at_a_cpu_of_its_own(gpus=(1,)))
    script = tmp_path / "script.py"
    script.write_text(SAY_CPUS.format(path=str(tmp_path / "said")))

    context = start_commands(str(script), binding=binding)
    context.wait()
    context.close()

    assert [f"0 executed {sorted(SECOND)}", f"1 executed {sorted(ALL)}"] == said(tmp_path / "said")


def test_options_that_cannot_be_followed_start_nothing(tmp_path):
    """Unless they say that it may fall back."""
    options = NumaOptions(AffinityMode.EXCLUSIVE)
    binding = CpuBinding(options, lambda: each_gpu_at_a_cpu_of_its_own(gpus=()))

    with pytest.raises(ValueError, match="exclusive of local ranks 0-1: no GPU is visible"):
        start_commands("-c", binding=binding)

    assert [] == multiprocessing.active_children()


def test_an_agent_binds_its_workers_at_each_start(binding, tmp_path):
    """After a restart, too."""
    script = tmp_path / "script.py"
    text = SAY_CPUS.format(path=str(tmp_path / "said"))
    script.write_text(text + "sys.exit(os.environ['TORCHELASTIC_RESTART_COUNT'] == '0')")
    handler = create_standalone(RendezvousParameters("standalone", "", "run", 1, 1))
    entrypoint, args = sys.executable, (str(script),)
    spec = WorkerSpec("trainer", 2, handler, entrypoint=entrypoint, args=args, max_restarts=1)
    agent = LocalElasticAgent(spec, worker_kit.Logs())
    agent._worker_start._binding = binding

    result = agent.run()

    handler.shutdown()
    assert not result.is_failed()
    first, second = f"0 executed {sorted(FIRST)}", f"1 executed {sorted(SECOND)}"
    # The worker that fails first may end the other before it has said anything.
    assert {first, second} == set(said(tmp_path / "said"))
