"""docs/parity.md is true: what it names is there, and nothing that the contract asks is left out.

The contract is what users of torchrun rely on: its options and variables, the names that programs
import, and what torch's own tests of its elastic agent expect. `SEEDS` lists those tests.
"""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from elrun.agent.workers.environment import worker_environment
from elrun.agent.workers.worker import WorkerGroup, WorkerSpec
from elrun.launcher.commandline.options import OPTIONS
from elrun.launcher.terminal.process_end import ExitCode

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/parity.md").read_text()

SEEDS = """
    dummy_compute run_happy_function run_sad_function run_bipolar_function
    run_function_with_return_value simple_dist_sum run_distributed_sum_homogeneous
    run_distributed_sum_heterogeneous correct_rank_assignment_homogeneous
    correct_rank_assignment_heterogeneous assign_worker_ranks assign_worker_ranks_identical
    find_boundaries compare serde run_check_env_function run_check_nccl_async_error_handling_env
    run_check_nccl_async_error_handling_env_default check_master_addr_port_override
    rendezvous_default_master_addr rendezvous_master_addr_with_local_addr
    double_agent_fault_tolerance double_agent_elastic workers_drift_success workers_drift_fail
    barrier_failed no_exit_barrier_on_failure rank_restart_after_failure shutdown_called
    agent_process_signal_exception agent_process_handler_graceful_exception
    rdzv_handler_shutdown_on_agent_error rdzv_handler_shutdown_on_agent_signal
    run_agent_local_watchdog_setup_enabled run_agent_local_watchdog_setup_disabled
    run_agent_healthcheck_setup_enabled run_agent_healthcheck_setup_disabled
    run_with_custom_log_lines torch_rpc invoke_run run_happy_path run_initialization_failure
    run_max_retries_exceeded run_membership_change run_unknown_state restart_workers
    initialize_workers initialize_workers_with_new_spec record_flakiness_metric
    record_flakiness_metric_zero_restarts record_flakiness_metric_user_exception
    record_metrics_success_with_retries record_metrics_success_no_retries
    record_metrics_failed_with_retries record_metrics_failed_no_retries
    record_worker_events_success record_worker_events_failure get_event get_worker_status_event
    construct_event_agent construct_event_worker launch_elastic launch_elastic_multiple_agents
    launch_elastic_worker_raise_exception launch_elastic_agent_raise_exception
    launch_dist_sum_with_static_rdzv launch_script_bash launch_script_python
    launch_script_python_local_rank_transfer launch_function launch_shutdown get_entrypoint_name
    launch_config_env_var_exit_barrier_timeout local_elastic_agent_env_var_exit_barrier_timeout
    parse_min_max_nnodes_range parse_min_max_nnodes_invalid determine_local_world_size_cpu
    determine_local_world_size_invalid record_success_receives_fn_name
    record_partial_entrypoint_without_qualname
"""
TORCHRUN_READS = """
    PYTHON_EXEC LOGLEVEL OMP_NUM_THREADS CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES
    TORCH_NCCL_ASYNC_ERROR_HANDLING
    TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE TORCHELASTIC_ERROR_FILE TORCHELASTIC_ENABLE_FILE_TIMER
    TORCHELASTIC_TIMER_FILE TORCHELASTIC_HEALTH_CHECK_PORT TORCHELASTIC_SIGNALS_TO_HANDLE
    TORCHELASTIC_ETCD_BINARY_PATH TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT
    TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT TORCH_ELASTIC_SHUTDOWN_TIMEOUT TORCH_ELASTIC_WORKER_IDENTICAL
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE TORCH_WORKER_SERVER_SOCKET USE_LIBUV
"""
BACKENDS = {"c10d", "etcd", "etcd-v2", "etcd-v3", "static", "one node", "plug-ins", ""}
# A test runs on several backends by one of these fixtures, or its file says so by its name.
RUNS_ON = {
    "nodes": {"c10d", "etcd", "etcd-v2", "etcd-v3"},
    "meeting": {"c10d", "etcd-v2", "etcd-v3"},
    "job": {"c10d", "etcd-v2", "etcd-v3"},
    "soak": {"c10d", "etcd-v3"},
}
TEST_ID = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def section(title):
    """Return the rows of a section's tables, each as its cells."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip(" |") for cell in row] for row in rows]


def coded(cell):
    return re.findall(r"`([^`]+)`", cell)


def read_tests():
    """Return the parameters of each test, by its file and its name."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[path.name, node.name] = {each.arg for each in node.args.args}
    return found


KNOWN_TESTS = read_tests()


def test_each_test_that_the_page_names_exists():
    """By its file and its name."""
    named = set(TEST_ID.findall(PAGE))

    assert len(named) > 90
    assert set() == named - set(KNOWN_TESTS)


def test_each_option_has_its_row():
    """And no row has an option that is none."""
    rows = {coded(row[0])[0] for row in section("Options") if coded(row[0])}

    assert {option.opts[-1] for option in OPTIONS} == rows


def test_each_variable_that_torchrun_reads_has_its_row():
    """As found in torch's sources: ``PET_*`` are those of the options."""
    rows = {name for row in section("Variables") for name in coded(row[0])}

    assert {"PET_*", *TORCHRUN_READS.split()} == rows


def test_each_variable_of_a_worker_has_its_row():
    """Those that elrun sets, and no others."""
    spec = WorkerSpec("role", 2, None, entrypoint="job")
    group = WorkerGroup(spec)
    environment = worker_environment(
        group.workers[0], group, restart_count=0, run_id="", use_agent_store=False, inherited={}
    )
    rows = {name for row in section("A worker's environment") for name in coded(row[0])}

    by_others = {"TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_SIGNALS_TO_HANDLE"}

    assert {*environment, *by_others} == rows


def test_each_exit_code_of_elrun_has_its_row():
    """Besides those of workers and signals."""
    codes = {row[0] for row in section("Exit codes")}

    own = {name: str(code) for name, code in vars(ExitCode).items() if name.isupper()}
    del own["WORKER_FAILED"]

    assert {*own.values()} <= codes


NAMES = [(coded(row[0])[0], coded(row[1])) for row in section("Names") if coded(row[0])]


@pytest.mark.parametrize(("home", "names"), NAMES, ids=[home for home, _ in NAMES])
def test_each_name_is_there(home, names):
    """At the module, or the class, that programs find it at."""
    try:
        owner = import_module(home)
    except ModuleNotFoundError:
        module, _, name = home.rpartition(".")
        owner = getattr(import_module(module), name)

    fields = getattr(owner, "__dataclass_fields__", {})
    assert [] == [name for name in names if not hasattr(owner, name) and name not in fields]


def test_each_of_torch_s_tests_has_its_row():
    """Once."""
    rows = [name for row in section("Behaviour")[1:] for name in row[0].split(", ")]

    assert sorted(SEEDS.split()) == sorted(rows)


@pytest.mark.parametrize(
    "row",
    [
        *section("Options")[1:],
        *section("Variables")[1:],
        *section("A worker's environment")[1:],
        *section("Behaviour")[1:],
        *[row[1:] for row in section("What came with torch 2.14 and 2.15")[1:]],
        *section("Exit codes")[1:],
        *section("Streams and files")[1:],
    ],
    ids=lambda row: row[0][:60],
)
def test_a_row_has_a_state_and_a_test(row):
    """One that is open says why."""
    _, state, shown_by, *_ = row

    assert re.match(r"same|more|differs: .|elrun's own|open: .", state)
    assert TEST_ID.search(shown_by) or state.startswith("open: ")


@pytest.mark.parametrize("row", section("Behaviour")[1:], ids=lambda row: row[0][:60])
def test_a_row_s_backends_are_those_of_its_tests(row):
    """Where it speaks of several, its tests run on each of them."""
    backends = set(row[3].split(", ")) if len(row) > 3 else {""}
    assert backends <= BACKENDS
    if len(backends & {"c10d", "etcd", "etcd-v2", "etcd-v3"}) < 2:
        return

    fixtures = {name for test in TEST_ID.findall(row[2]) for name in KNOWN_TESTS[test]}
    covered = set().union(*(RUNS_ON.get(name, set()) for name in fixtures))

    assert backends <= covered
