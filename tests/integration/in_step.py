"""A job whose workers go in step, count their steps, and resume from a checkpoint.

    in_step.py FOLDER [--gloo]

It goes on until FOLDER has a file named ``enough``. The journal in FOLDER has a line for each step
that a worker made together with all others of its group. They meet at rank 0, by plain sockets, or
by gloo: either blocks while a peer is silent, and fails when one is gone.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

STEP_S = 0.05
SAVE_EVERY = 5

FOLDER = Path(sys.argv[1])
RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
# Beside the workers' store, whose port its agent holds: as new as that in every round.
MASTER = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) ^ 1


class Sockets:
    def __init__(self):
        if RANK == 0:
            with socket.create_server(("", MASTER[1])) as server:
                found = [server.accept()[0] for _ in range(1, WORLD_SIZE)]
            self.peers = dict(enumerate(found, 1))
        else:
            self.peers = {0: self.connect()}

    @staticmethod
    def connect():
        while True:
            try:
                return socket.create_connection(MASTER)
            except ConnectionRefusedError:  # rank 0 has yet to come
                time.sleep(0.02)

    def send(self, rank, number):
        self.peers[rank].sendall(number.to_bytes(8, "big"))

    def receive(self, rank):
        data = self.peers[rank].recv(8, socket.MSG_WAITALL)
        if len(data) < 8:
            raise ConnectionError("a peer is gone")
        return int.from_bytes(data, "big")


class Gloo:
    def __init__(self):
        import torch  # a second, which most of the tests don't spend
        import torch.distributed as dist  # the same

        dist.init_process_group("gloo")
        self.torch, self.dist = torch, dist

    def send(self, rank, number):
        self.dist.send(self.torch.tensor([number]), rank)

    def receive(self, rank):
        value = self.torch.tensor([0])
        self.dist.recv(value, rank)
        return int(value)


def agree(group, number):
    """Return rank 0's number, once all are here and have it.

    Rank 0 goes on only when all others have answered what it has just sent: one that stood still
    while the others formed a new round finds nobody, whatever lay in its sockets.
    """
    if RANK != 0:
        group.send(0, 0)
        number = group.receive(0)
        group.send(0, 0)
        return number
    others = range(1, WORLD_SIZE)
    for rank in others:
        group.receive(rank)
    for rank in others:
        group.send(rank, number)
    for rank in others:
        group.receive(rank)
    return number


def saved_step():
    try:
        return int((FOLDER / "checkpoint").read_text())
    except FileNotFoundError:
        return 0


def save(step):
    part = FOLDER / "checkpoint.part"
    part.write_text(str(step))
    part.replace(FOLDER / "checkpoint")


def main():
    group = Gloo() if "--gloo" in sys.argv else Sockets()
    meeting = [*MASTER, agree(group, os.getpid())]
    step = first = agree(group, saved_step())
    with (FOLDER / "journal").open("a", buffering=1) as journal:
        while True:
            start = time.monotonic()
            time.sleep(STEP_S)
            is_enough = RANK == 0 and (FOLDER / "enough").exists()
            if agree(group, int(is_enough)):
                return
            step += 1
            line = {"round": meeting, "rank": RANK, "step": step, "start": start}
            journal.write(json.dumps({**line, "end": time.monotonic()}) + "\n")
            if step == first + SAVE_EVERY + 2:  # so there is a checkpoint to go back to
                sys.stdout.write(f"{WORLD_SIZE} workers, since step {first}\n")
                sys.stdout.flush()
            # A process that stood still just here must not take the job back.
            if RANK == 0 and step % SAVE_EVERY == 0 and saved_step() < step:
                save(step)


main()
sys.stdout.flush()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
