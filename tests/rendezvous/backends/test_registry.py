"""Backends by name: elrun's own, registered ones and plug-ins."""

import subprocess
import sys

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import (
    RendezvousHandlerRegistry,
    get_rendezvous_handler,
    known_backends,
)
from elrun.rendezvous.backends.solo import (
    ETCD_SETTINGS,
    TORCH_SETTINGS,
    create_standalone,
)
from elrun.rendezvous.stores.etcd.settings import etcd_settings


def parameters(backend):
    return RendezvousParameters(backend, "localhost:29400", "run", 1, 1)


class Handler:
    def __init__(self, params):
        self.params = params

    def get_backend(self):
        return self.params.backend


def plug_in(folder, monkeypatch, name, source):
    """Install a package that declares a backend."""
    (folder / f"{name}_plugin.py").write_text(source)
    info = folder / f"{name}_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[torchrun.handlers]\n{name} = {name}_plugin:get_handler\n"
    )
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("backend", ["standalone", "static", "c10d"])
def test_elruns_own_backends_say_their_names(backend):
    """The handler answers with the name that it was asked for by."""
    handler = get_rendezvous_handler(parameters(backend))
    handler.shutdown()

    assert (backend, "run", False) == (
        handler.get_backend(),
        handler.get_run_id(),
        handler.use_agent_store,
    )


def test_elruns_own_backends_are_known():
    """The command line lists them."""
    assert {"standalone", "static", "c10d"} <= set(known_backends())


def test_a_registered_backend_is_made():
    """Programs may bring their own."""
    registry = RendezvousHandlerRegistry()
    registry.register("mine", Handler)

    assert "mine" == registry.create_handler(parameters("mine")).get_backend()


def test_a_name_is_given_once():
    """Registering the same constructor again is no fault; another one is."""
    registry = RendezvousHandlerRegistry()
    registry.register("mine", Handler)
    registry.register("mine", Handler)

    with pytest.raises(ValueError, match="'mine' is registered already"):
        registry.register("mine", type("Other", (Handler,), {}))


def test_a_backend_needs_a_name():
    """An empty one could not be asked for."""
    with pytest.raises(ValueError, match="must not be empty"):
        RendezvousHandlerRegistry().register("", Handler)


@pytest.mark.parametrize(
    ("backend", "match"),
    [
        ("c10", "known ones are c10d, .*standalone, static; did you mean c10d?"),
        ("zookeeper", "known ones are c10d, .*standalone, static$"),
    ],
)
def test_an_unknown_backend_is_refused(backend, match):
    """The sentence lists the known ones, and the nearest spelling."""
    with pytest.raises(ValueError, match=match):
        get_rendezvous_handler(parameters(backend))


@pytest.mark.parametrize("caught", [ValueError, RuntimeError])
def test_a_handler_of_another_name_is_refused(caught):
    """An elrun program may catch the one, a program that was torchrun's the other."""
    registry = RendezvousHandlerRegistry()
    registry.register("mine", lambda _: create_standalone(parameters("standalone")))

    with pytest.raises(caught, match="'mine' made a handler that says it is 'standalone'"):
        registry.create_handler(parameters("mine"))


def test_a_plug_in_is_found_by_its_entry_point(tmp_path, monkeypatch):
    """Packages that torchrun finds are found by elrun, too."""
    plug_in(
        tmp_path,
        monkeypatch,
        "fancy",
        "class Fancy:\n"
        "    def __init__(self, params): pass\n"
        "    def get_backend(self): return 'fancy'\n"
        "def get_handler(): return Fancy\n",
    )

    assert "fancy" in known_backends()
    assert "fancy" == get_rendezvous_handler(parameters("fancy")).get_backend()


def test_a_broken_plug_in_is_named(tmp_path, monkeypatch):
    """Whatever it raises, the user learns which backend it was."""
    plug_in(tmp_path, monkeypatch, "broken", "raise RuntimeError('oh no')\n")

    with pytest.raises(ValueError, match="'broken' can't be loaded: RuntimeError"):
        get_rendezvous_handler(parameters("broken"))


@pytest.mark.integration
def test_backends_load_only_what_they_need():
    """One node pays for no store, no wire format, no metadata of packages, and never for torch."""
    program = (
        "import sys; from elrun.rendezvous.backends.registry import get_rendezvous_handler;"
        "from elrun.rendezvous.api.handler import RendezvousParameters;"
        "get_rendezvous_handler(RendezvousParameters('standalone', '', 'run', 1, 1))"
        ".next_rendezvous();"
        "heavy = {'torch', 'json', 'importlib.metadata', 'elrun.rendezvous.stores.server.client',"
        " 'random', 'ipaddress', 'urllib', 'logging.config'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    assert "[]\n" == printed


def test_a_setting_that_nobody_asks_for_is_told_of(caplog):
    """A misspelt one would else be noticed when it is needed."""
    config = {"last_cal_timeout": "3", "join_timeout": "4"}
    get_rendezvous_handler(RendezvousParameters("c10d", "localhost:0", "run", 1, 1, **config))

    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        "--rdzv-conf last_cal_timeout=3: the c10d rendezvous has no such setting, so it has no "
        "effect; did you mean last_call_timeout?"
    )


@pytest.mark.parametrize("backend", ["standalone", "static"])
def test_one_node_takes_settings_of_other_backends(caplog, backend):
    """They may be the same for all jobs of a site."""
    others = dict.fromkeys((*ETCD_SETTINGS, *TORCH_SETTINGS), "x") | {
        "secret_file": "/nowhere",
        "is_host": "on",
    }
    config = {"last_call_timeout": "3", "rank": "0", **others}
    get_rendezvous_handler(RendezvousParameters(backend, "", "run", 1, 1, **config))

    assert [] == caplog.records


@pytest.mark.parametrize("backend", ["standalone", "static"])
def test_one_node_is_told_of_a_setting_that_no_backend_has(caplog, backend):
    """It would be missed on the day when the job gets another node."""
    config = {"join_timeot": "3"}
    get_rendezvous_handler(RendezvousParameters(backend, "", "run", 1, 1, **config))

    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        f"--rdzv-conf join_timeot=3: the {backend} rendezvous has no such setting, so it has no "
        "effect; did you mean join_timeout?"
    )


@pytest.mark.parametrize("backend", ["standalone", "static", "c10d"])
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("is_host", "maybe", "give true or false"),
        ("join_timeout", "soon", "give a number of seconds, 0 or more"),
        ("timeout", -1, "give a number of seconds, 0 or more"),
        ("store_patience", "-1", "give a number of seconds, 0 or more"),
        ("last_call_timeout", "nan", "give a number of seconds, 0 or more"),
        ("heartbeat_interval", "0", "give a number of seconds above 0"),
        ("rank", "-1", ""),
    ],
)
def test_one_node_refuses_what_several_refuse(backend, name, value, wanted):
    """A wrong value has no effect there, and would stop the job once it has another node."""
    parameters = RendezvousParameters(backend, "", "run", 1, 1, **{name: value})

    with pytest.raises(ValueError, match=f"{name.replace('_', '.')}.{value}: {wanted}"):
        get_rendezvous_handler(parameters)


def test_the_settings_of_etcd_are_those_that_it_asks_for():
    """What one node takes without a word is no list that can grow old."""
    asked = RendezvousParameters("etcd-v3", "localhost:1", "run", 1, 1)
    etcd_settings(asked)

    assert set(ETCD_SETTINGS) == asked.asked
