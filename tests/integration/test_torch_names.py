"""The names that programs import from torch's elastic packages, beside elrun's of the same name.

Whoever changes an import must not have to change a call: what can be passed to torch's can be
passed to elrun's, by position and by name. It is read from the torch that is installed here.
"""

import inspect
from importlib import import_module

import pytest

NEWEST_READ = (2, 15)
OLDEST = (2, 13)  # before, some parameters stood elsewhere

ELASTIC = "torch.distributed.elastic"
HOMES = [
    ("torch.distributed.launcher.api", "elrun.launcher"),
    (f"{ELASTIC}.agent.server.api", "elrun.agent"),
    (f"{ELASTIC}.agent.server.local_elastic_agent", "elrun.agent"),
    (f"{ELASTIC}.agent.server.health_check_server", "elrun.agent"),
    (f"{ELASTIC}.multiprocessing", "elrun.agent"),
    (f"{ELASTIC}.multiprocessing.errors", "elrun.agent"),
    (f"{ELASTIC}.events", "elrun.agent.events"),
    (f"{ELASTIC}.metrics", "elrun.agent.metrics"),
    (f"{ELASTIC}.timer", "elrun.agent.timers"),
    (f"{ELASTIC}.rendezvous", "elrun.rendezvous"),
    (f"{ELASTIC}.rendezvous.etcd_server", "elrun.rendezvous"),
]
# Public in torch only in that nobody wrote an underscore.
NOT_OURS = {
    "TORCHELASTIC_ENABLE_FILE_TIMER": "the variable is there; its name is its value",
    "TORCHELASTIC_HEALTH_CHECK_PORT": "the same",
    "TORCHELASTIC_TIMER_FILE": "the same",
    "TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT": "the same",
    "get_log_level": "torch's own logging",
    "get_std_cm": "how torch redirects streams inside its workers",
    "profile": "deprecated in torch: it is prof",
    "find_free_port": "of torch's etcd server",
    "stop_etcd": "of torch's etcd server",
    "CChildFailedError": "a type variable",
}
# Steps inside torch's classes, by the class.
OWN_STEPS = {
    "FileTimerServer": {
        "clear_timers", "get_expired_timers", "get_last_progress_time", "is_process_running",
        "register_timers", "run_once",
    },
}  # fmt: skip
DIFFERENT = {
    "ChildFailedError.format_msg": "the message is elrun's own, without delimiters",
    "EtcdServer.start": "how often it is tried is not the caller's affair",
    "MultiprocessContext": "start_processes makes it, and has chosen the CPUs by then",
    "SubprocessContext": "the same",
}
TEMPLATE = """
    _start_workers _stop_workers _monitor_workers _shutdown _invoke_run _rendezvous
    _assign_worker_ranks _initialize_workers _restart_workers _exit_barrier _record_metrics
    _record_metric_with_condition _record_flakiness_metric _record_worker_events _construct_event
""".split()  # noqa: SIM905  as contracts list them


def torch_version():
    version = import_module("torch").__version__
    return tuple(int(part) for part in version.split(".")[:2])


@pytest.fixture(scope="module", autouse=True)
def _new_torch():
    pytest.importorskip("torch.distributed.elastic", exc_type=ImportError)
    if torch_version() < OLDEST:
        pytest.skip(f"torch {torch_version()} has other signatures")


def public_names(module):
    """Return what a program may import from there: what is listed, else what is defined."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith(module.__name__.rpartition(".")[0])
    ]


def public_methods(owner):
    return [
        name
        for name, value in vars(owner).items()
        if (not name.startswith("_") or name in TEMPLATE)
        and callable(getattr(owner, name))
        and not inspect.isclass(value)
    ]


def misfits(place, theirs, ours):
    """Return why a call of theirs is no call of ours, as a list of sentences."""
    if place in DIFFERENT:
        return []
    try:
        wanted = list(inspect.signature(theirs).parameters.values())
        had = list(inspect.signature(ours).parameters.values())
    except (TypeError, ValueError):  # an enum, or no Python
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = []
    for number, one in enumerate(wanted):
        other = had[number] if number < len(had) else None
        if one.kind in variable:
            if all(each.kind != one.kind for each in had):
                found.append(f"{place}: no {one}")
        elif other is None or (one.name, one.kind) != (other.name, other.kind):
            found.append(f"{place}: parameter {number} is not {one.name}: {list(map(str, had))}")
        elif one.default is not one.empty and other.default is other.empty:
            found.append(f"{place}: {one.name} has no default")
    required = [each for each in had[len(wanted) :] if each.default is each.empty]
    return [*found, *(f"{place}: needs {each}" for each in required if each.kind not in variable)]


@pytest.mark.parametrize(("torch_home", "home"), HOMES, ids=[home for home, _ in HOMES])
def test_whoever_changes_an_import_need_not_change_a_call(torch_home, home):
    """Names, parameters in their order, methods and theirs."""
    theirs, ours = import_module(torch_home), import_module(home)
    names = [name for name in public_names(theirs) if name not in NOT_OURS]
    found = [f"no {name}" for name in names if not hasattr(ours, name)]
    for name in names:
        one, other = getattr(theirs, name), getattr(ours, name, None)
        if other is None or not callable(one):
            continue
        found += misfits(name, one, other)
        if not inspect.isclass(one):
            continue
        for method in public_methods(one):
            if method in OWN_STEPS.get(name, ()):
                continue
            if hasattr(other, method):
                found += misfits(f"{name}.{method}", getattr(one, method), getattr(other, method))
            else:
                found.append(f"no {name}.{method}")

    assert [] == found


def test_this_page_knows_the_torch_that_is_installed():
    """A newer one has to be read first: what is new there, docs/parity.md has to say."""
    assert torch_version() <= NEWEST_READ
