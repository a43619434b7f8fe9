"""What strangers may take from the agent that hosts the store, and what they are told."""

import contextlib
import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.server.answers import Answers
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.dial import shake_hands
from elrun.rendezvous.stores.server.frames import FrameReader, write_frame
from elrun.rendezvous.stores.server.hello import Hello, Refusal
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.server.sessions import MOST_WILL_BYTES, Sessions
from elrun.rendezvous.stores.server.wire import LeaveWill, read_answer
from elrun.rendezvous.stores.store import Will
from server_kit import LONG_S

HOST_WITH_FEW_FILES = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.guard import Guard
from elrun.rendezvous.stores.signed import Secret
guard = Guard(Secret(b"open sesame"))
connect = StoreConnector(Endpoint("127.0.0.1", int(sys.argv[1])), True, None, 30, guard=guard)
store = connect(threading.Event()).store
sys.stdout.write("hosts\\n")
sys.stdout.flush()
sys.stdin.readline()
files = [open("/dev/null") for _ in range(200)]
sys.stdout.write(f"{len(files)} files, {store.add('n', 1)}\\n")
sys.stdout.flush()
"""


@pytest.mark.integration
def test_strangers_leave_the_agent_its_open_files(port):
    """They hold as many connections as they get; the agent still opens its files."""
    command = [sys.executable, "-c", HOST_WITH_FEW_FILES, str(port)]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as held:
        host = held.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        assert "hosts\n" == host.stdout.readline()
        for _ in range(700):
            held.enter_context(socket.create_connection(("127.0.0.1", port), LONG_S))
        said, _ = host.communicate("go on\n", timeout=LONG_S)

    assert "200 files, 1\n" == said


def test_all_wills_together_are_bounded():
    """One that is replaced, or whose client has said goodbye, makes room."""
    sessions, answers = Sessions(60.0), Answers(max_waits=4)
    clients = [sessions.begin(str(number), "host") for number in range(3)]
    half = Will({"k": bytes(MOST_WILL_BYTES // 2 - 1)}, {}, ())
    told = []
    for client in [clients[0], clients[0], clients[1], clients[2]]:
        told.append(answers.answer(client, 1, LeaveWill(half, 0)))
    sessions.end(clients[0])
    told.append(answers.answer(clients[2], 2, LeaveWill(half, 0)))
    ((refused,),) = filter(None, told)
    (answer,) = FrameReader(1 << 10).feed(refused)

    assert [None, None, None, [refused], None] == told
    assert f"all wills together have at most {MOST_WILL_BYTES} bytes" == read_answer(answer).error
    assert clients[2].will is not None


def test_a_will_that_is_carried_out_makes_room():
    sessions, answers = Sessions(60.0), Answers(max_waits=4)
    client = sessions.begin("a", "host")
    answers.answer(client, 1, LeaveWill(Will({"k": b"1"}, {}, ()), 0))
    sessions.break_off(client, 0.0)
    before = sessions._remembered.will_bytes
    looks = [sessions.take_due_wills(1.0) for _ in range(20)]

    assert before > 0
    assert [{"k": b"1"}] == [will.values for look in looks for will in look]
    assert 0 == sessions._remembered.will_bytes


def test_a_will_behind_a_goodbye_is_none():
    """Its bytes would count as long as the server lives."""
    sessions, answers = Sessions(60.0), Answers(max_waits=4)
    client = sessions.begin("a", "host")
    sessions.end(client)
    answers.answer(client, 1, LeaveWill(Will({"k": b"1"}, {}, ()), 0))
    sessions.break_off(client, 0.0)

    assert (None, 0) == (client.will, sessions._remembered.will_bytes)


def test_a_stranger_of_another_version_is_told_no_name(server):
    with server.dial() as connection:
        connection.settimeout(LONG_S)
        connection.sendall(write_frame({"elrun": 2, "hello": {}}))
        text = connection.recv(4096)

    assert b"it speaks version 3 of elrun's protocol, and this node 2" in text
    assert b"here" not in text


def test_a_client_that_may_not_come_back_says_why(server):
    """As where its certificate has expired meanwhile: the host alone is not to blame."""
    link = shake_hands(server.dial(), Hello("job", "a", "5e55"), LONG_S)
    client = StoreClient(Line(link, "there", LONG_S, lambda _: Refusal("tls-failed", "expired")))
    client.add("n", 1)
    link.shut_down()
    with pytest.raises(
        RendezvousConnectionError,
        match="its host has closed the connection, and refuses another one: expired",
    ):
        client.add("n", 1)
    client.close()
