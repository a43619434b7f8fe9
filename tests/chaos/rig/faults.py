"""How each kind of fault is done to a stage, and how it is mended."""

import os
import signal
from contextlib import suppress

from rig.schedule import MEMBERS
from rig.stage import DISK_SIZE

NOWHERE = "02:00:00:00:00:99"
"""A hardware address that no interface has: what is sent there arrives nowhere."""


def do(stage, fault, spared=()):
    """Do a fault; return the host that it concerns and what mends it, or None if it can't be done.

    Args:
        stage: Where.
        fault: What.
        spared: Hosts to which nothing may be done: something is wrong with them already.
    """
    kind = fault.kind
    if kind in MEMBER_KINDS:
        member = stage.leader() if kind in OF_THE_LEADER else fault.target
        host = stage.member_hosts[member]
        return None if spared else (host, MEMBER_KINDS[kind](stage, member))
    nodes = [node for node in stage.agents if stage.nodes[node] not in spared]
    if kind in HOST_KINDS:
        nodes = [node for node in nodes if node == stage.host_of_store()]
    if not nodes:
        return None
    node = fault.target if fault.target in nodes else min(nodes)
    return stage.nodes[node], (NODE_KINDS | HOST_KINDS)[kind](stage, node)


def _kill_worker(stage, node):
    for pid in stage.workers_of(node)[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return lambda: None


def _kill_agent(stage, node):
    stage.lose(node, signal.SIGKILL, -signal.SIGKILL)
    return lambda: stage.start_agent(node)


def _stop_agent(stage, node):
    stage.lose(node, signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGTERM)
    return lambda: stage.start_agent(node)


def _pause_node(stage, node):
    stage.nodes[node].pause()
    return stage.nodes[node].wake_up


def _pause_agent(stage, node):
    process = stage.agents[node].process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


def _cut(stage, node):
    stage.nodes[node].cut_cable()
    return stage.nodes[node].mend_cable


def _cut_all(stage, _):
    for host in stage.nodes:
        host.cut_cable()
    return lambda: [host.mend_cable() for host in stage.nodes]


def _mute(stage, node):
    host = stage.nodes[node]
    others = [each for each in (*stage.nodes, *stage.member_hosts) if each is not host]
    for other in others:
        _misdirect(host, other)
    return lambda: [_direct(host, other) for other in others]


def _deafen(stage, node):
    host = stage.nodes[node]
    others = [each for each in (*stage.nodes, *stage.member_hosts) if each is not host]
    for other in others:
        _misdirect(other, host)
    return lambda: [_direct(other, host) for other in others]


def _misdirect(host, other):
    words = ("ip", "neigh", "replace", other.address, "lladdr", NOWHERE, "dev", "eth0")
    host.run(*words, "nud", "permanent")


def _direct(host, other):
    """Two faults may have misdirected the same pair: the second mend finds nothing left to do."""
    host.run("ip", "neigh", "flush", "to", other.address, "dev", "eth0", "nud", "permanent")


def _interface_down(stage, node):
    stage.nodes[node].run("ip", "link", "set", "eth0", "down")
    return lambda: stage.nodes[node].run("ip", "link", "set", "eth0", "up")


def _slow(stage, node):
    """Let little through at a time: what finds no room in a short queue is lost."""
    host = stage.nodes[node]
    narrow = ("root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1500")
    host.run("tc", "qdisc", "add", "dev", "eth0", *narrow)
    stage.cable_of(host, "tc", "qdisc", "add", "dev", host.name, *narrow)

    def mend():
        host.run("tc", "qdisc", "del", "dev", "eth0", "root")
        stage.cable_of(host, "tc", "qdisc", "del", "dev", host.name, "root")

    return mend


def _fill_disk(stage, node):
    host, other = stage.nodes[node], min(set(stage.agents) - {node})
    junk = stage.folder / "disk" / host.name / "junk"
    host.run("sh", "-c", f"head -c {DISK_SIZE.upper()} /dev/zero > {junk} 2>&-; true")
    stage.let_pass(0.5)
    _kill_worker(stage, other)
    return lambda: host.run("rm", "-f", str(junk))


def _kill_member(stage, member):
    stage.members[member].kill()
    stage.members[member].wait()
    return lambda: stage.start_member(member)


def _kill_two_members(stage, member):
    mends = [_kill_member(stage, each % MEMBERS) for each in (member, member + 1)]
    return lambda: [mend() for mend in mends]


def _pause_member(stage, member):
    process = stage.members[member]
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


def _cut_member(stage, member):
    stage.member_hosts[member].cut_cable()
    return stage.member_hosts[member].mend_cable


NODE_KINDS = {
    "a worker is killed": _kill_worker,
    "an agent is killed; later a new one comes": _kill_agent,
    "an agent is stopped by SIGTERM; later a new one comes": _stop_agent,
    "a node stands still for a moment": _pause_node,
    "a node stands still for long": _pause_node,
    "an agent stands still for long, and its workers don't": _pause_agent,
    "a cable is cut for a moment": _cut,
    "a cable is cut for long": _cut,
    "nothing that a node sends arrives": _mute,
    "nothing that is sent to a node arrives": _deafen,
    "all cables are cut": _cut_all,
    "an interface is down": _interface_down,
    "a cable is slow and loses much": _slow,
    "the disk for the log files is full, and a worker is killed": _fill_disk,
}
HOST_KINDS = {
    "the agent with the store is killed; later a new one comes": _kill_agent,
    "the node with the store stands still for long": _pause_node,
    "the node with the store is cut off for long": _cut,
    "nothing that the node with the store sends arrives": _mute,
}
MEMBER_KINDS = {
    "the etcd member that leads is killed; it starts again": _kill_member,
    "an etcd member is killed; it starts again": _kill_member,
    "an etcd member stands still": _pause_member,
    "an etcd member is cut off": _cut_member,
    "two etcd members are killed; they start again": _kill_two_members,
}
OF_THE_LEADER = {"the etcd member that leads is killed; it starts again"}
