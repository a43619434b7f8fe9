"""Hosts of their own on one machine: network namespaces, joined by a switch.

Nothing of this has a name outside of it. A namespace lives as long as a process in it does, and
that one reads from a pipe of the test's until the test ends, however it ends. So two networks side
by side can't meet, and none outlives a test that is killed.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount", "hostname", "cat", "sh")
SETTLE = """
hostname {name}
mount --bind {hosts} /etc/hosts
ip link set lo up
ip address add {address}/24 dev eth0
ip link set eth0 up
"""
SUBNET = "198.18.0."  # for tests of networks (RFC 2544), and no network of this machine's


def why_no_namespaces():
    """Return why namespaces can't be made here, or nothing if they can."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"network namespaces need {', '.join(missing)}"
    attempt = ["unshare", "--net", "--uts", "--mount", "ip", "link", "add", "type", "veth"]
    done = subprocess.run(attempt, check=False, capture_output=True, text=True)
    return f"network namespaces can't be made: {done.stderr.strip()}" if done.returncode else ""


class Network:
    """Hosts joined by a switch.

    Args:
        folder: The hosts' current folder, and where their ``/etc/hosts`` lies.
        size: Number of hosts: node1, node2 and so on.
    """

    def __init__(self, folder, size):
        self.folder = Path(folder)
        self.anchors = []
        names = {f"node{number}": f"{SUBNET}{number}" for number in range(1, size + 1)}
        known = [f"{address} {name}" for name, address in names.items()]
        hosts = self.folder / "hosts"
        hosts.write_text("\n".join(["127.0.0.1 localhost", *known, ""]))
        try:
            switch = self._make_namespaces("--net")
            enter(switch, "ip", "link", "add", "switch", "up", "type", "bridge")
            self.hosts = []
            for name, address in names.items():
                anchor = self._make_namespaces("--net", "--uts", "--mount")
                port = ["ip", "link", "add", name, "master", "switch", "up", "type", "veth"]
                enter(switch, *port, "peer", "name", "eth0", "netns", str(anchor.pid))
                host = Host(name, address, anchor, switch)
                host.run("sh", "-ec", SETTLE.format(name=name, address=address, hosts=hosts))
                self.hosts.append(host)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Let go of the namespaces; the kernel removes them after their last process."""
        for anchor in self.anchors:
            anchor.communicate()

    def _make_namespaces(self, *kinds):
        anchor = subprocess.Popen(
            ["unshare", *kinds, "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            bufsize=0,
        )
        self.anchors.append(anchor)
        anchor.stdin.write(b"\n")
        assert b"\n" == anchor.stdout.read(1)  # it runs, so they are made
        return anchor


class Host:
    """One of them.

    Args:
        name: Its host name, which all of them know.
        address: Its address.
        anchor: The process that keeps its namespaces.
        switch: The one that keeps the switch's.
    """

    def __init__(self, name, address, anchor, switch):
        self.name = name
        self.address = address
        # What is started by these words has the process id that one gets, and ends with the test.
        self.prefix = ("setpriv", "--pdeathsig", "KILL", *entry(anchor, "-n", "-u", "-m"))
        self._anchor = anchor
        self._switch = switch

    def run(self, *command):
        """Run a command on this host to its end."""
        subprocess.run([*self.prefix, *command], check=True)

    def cut_cable(self):
        """Let nothing through any more, without a word to either side."""
        enter(self._switch, "ip", "link", "set", self.name, "down")

    def mend_cable(self):
        enter(self._switch, "ip", "link", "set", self.name, "up")

    def signal(self, number):
        """Send a signal to all that runs on this host."""
        for pid in self.processes():
            os.kill(pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def wake_up(self):
        self.signal(signal.SIGCONT)

    def processes(self):
        """Return the pids of all that runs on this host, those started first in front."""
        here = Path("/proc", str(self._anchor.pid), "ns/net").stat().st_ino
        found = []
        for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
            try:
                is_here = Path("/proc", str(pid), "ns/net").stat().st_ino == here
            except OSError:  # it has ended meanwhile
                continue
            if is_here and pid != self._anchor.pid:
                found.append(pid)
        return found


def entry(anchor, *kinds):
    """Return words that run what follows them in another process's namespaces."""
    return ("nsenter", f"--target={anchor.pid}", *kinds, "--wd")


def enter(anchor, *command):
    subprocess.run([*entry(anchor, "-n"), *command], check=True)
