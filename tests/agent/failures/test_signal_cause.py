"""Why a signal killed a worker: a table from what the kernel tells to the sentence."""

import os
import signal

import pytest
from elrun.agent.failures.kernel_log import KernelRecord, gpu_faults, lines_about, parse
from elrun.agent.failures.limits import Limits
from elrun.agent.failures.memory_events import KernelWatch
from elrun.agent.failures.signal_cause import SignalFacts, explain, gather, in_bytes

KILL, BUS, SEGV = -signal.SIGKILL, -signal.SIGBUS, -signal.SIGSEGV
MIB = 1 << 20
OUT_OF_MEMORY = (
    "Memory cgroup out of memory: Killed process 77 (python) total-vm:900000kB, "
    "anon-rss:204800kB, file-rss:9000kB, shmem-rss:0kB, UID:0 pgtables:600kB oom_score_adj:0"
)
KILLED_BY_SOMEBODY = "another process sent SIGKILL, or the worker itself: memory did not run out in"
CUT_SHORT = "a file that it had mapped into memory was cut short, or its file system was full"
SHUT_DOWN = "its script had ended before, and the interpreter was shutting down"
FIGURES = "elrun's cgroup, limit 256 MiB, peak 255 MiB"
CGROUP = {"is_of_cgroup": True, "memory_limit": 256 * MIB, "memory_peak": 255 * MIB}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (SignalFacts(0), ""),
        (SignalFacts(1), ""),
        (SignalFacts(1, oom_kills=0), ""),
        (
            SignalFacts(KILL, oom_kills=1, **CGROUP),
            f"memory ran out: the kernel killed it ({FIGURES})",
        ),
        (
            SignalFacts(KILL, oom_kills=1, log=(OUT_OF_MEMORY,), **CGROUP),
            f"memory ran out: the kernel killed it, when it held 200 MiB ({FIGURES})",
        ),
        (SignalFacts(KILL, oom_kills=1), "memory ran out: the kernel killed it (this host)"),
        (  # counted in a cgroup of the worker's own
            SignalFacts(KILL, oom_kills=0, log=(OUT_OF_MEMORY,), is_of_cgroup=True),
            "memory ran out: the kernel killed it, when it held 200 MiB (elrun's cgroup)",
        ),
        (
            SignalFacts(KILL, oom_kills=0, **CGROUP),
            f"{KILLED_BY_SOMEBODY} {FIGURES}",
        ),
        (
            SignalFacts(KILL),
            "elrun did not send it; the kernel does when memory runs out (see dmesg)",
        ),
        (  # a DataLoader's worker was killed, and the trainer raises
            SignalFacts(1, oom_kills=2, is_of_cgroup=True),
            "memory ran out meanwhile: the kernel killed 2 processes of elrun's cgroup",
        ),
        (
            SignalFacts(-signal.SIGXCPU, limits=Limits(cpu_s=4)),
            "it has used up its CPU time: 3 s (ulimit -t)",
        ),
        (
            SignalFacts(-signal.SIGXCPU),
            "another process sent the signal, or the worker itself did: elrun did not",
        ),
        (
            SignalFacts(-signal.SIGXFSZ, limits=Limits(file_bytes=MIB)),
            "a file got larger than a file may get: 1 MiB (ulimit -f)",
        ),
        (
            SignalFacts(BUS, shared_memory=(64 * MIB, 4096)),
            "/dev/shm is full (64 MiB): enlarge it (docker: --shm-size)",
        ),
        (
            SignalFacts(BUS, shared_memory=(64 * MIB, 64 * MIB)),
            f"{CUT_SHORT} (/dev/shm has 64 MiB, of which 64 MiB are free now)",
        ),
        (SignalFacts(BUS), CUT_SHORT),
        (SignalFacts(SEGV), ""),
        (
            SignalFacts(SEGV, log=("python[77]: segfault at 0 ip 0 in libx.so",)),
            "the kernel's log: python[77]: segfault at 0 ip 0 in libx.so",
        ),
        (SignalFacts(SEGV, core="/runs/core.77"), "core file: /runs/core.77"),
        (SignalFacts(-signal.SIGABRT), ""),
        (
            SignalFacts(-signal.SIGTERM),
            "another process sent the signal, or the worker itself did: elrun did not",
        ),
        (
            SignalFacts(-signal.SIGRTMIN),
            "another process sent the signal, or the worker itself did: elrun did not",
        ),
        (
            SignalFacts(-signal.SIGPIPE),
            "it wrote to a pipe or a socket that nobody reads any more",
        ),
        (
            SignalFacts(1, gpu_faults=("Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",)),
            "a GPU reported a fault: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
        ),
        (SignalFacts(-signal.SIGABRT, has_script_ended=True), SHUT_DOWN),
        (
            SignalFacts(SEGV, core="/c.7", has_script_ended=True, has_open_group=True),
            (
                f"{SHUT_DOWN}; the script had not called "
                "torch.distributed.destroy_process_group(); core file: /c.7"
            ),
        ),
        (SignalFacts(1, has_script_ended=True), ""),
        (
            SignalFacts(-signal.SIGINT, has_script_ended=True),
            ("another process sent the signal, or the worker itself did: elrun did not"),
        ),
        (SignalFacts(120), ""),
        (SignalFacts(137), "137 is 128 + 9: so shells tell that SIGKILL ended a program"),
        (SignalFacts(139), "139 is 128 + 11: so shells tell that SIGSEGV ended a program"),
        (
            SignalFacts(137, oom_kills=1, is_of_cgroup=True),
            "memory ran out meanwhile: the kernel killed a process of elrun's cgroup",
        ),
        (SignalFacts(128), ""),
        (SignalFacts(146), ""),
        (SignalFacts(255), ""),
        (
            SignalFacts(120, has_script_ended=True),
            (
                "its script had ended before, but what was left to print could not be written to "
                "standard output or standard error"
            ),
        ),
    ],
)
def test_what_the_kernel_tells_becomes_a_sentence(facts, words):
    """Only what is certain is said; what is not known is left open."""
    assert words == explain(facts)


def test_the_sentence_is_bounded():
    """A log line may be as long as it likes."""
    assert 500 == len(explain(SignalFacts(SEGV, log=("x" * 10_000,))))


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (b"6,339,5140900,-;NET: up\n", KernelRecord(5.1409, "NET: up")),
        (b"4,1,0,-,caller=T1;a;b\n SUBSYSTEM=pci\n", KernelRecord(0.0, "a;b")),
        (b"6,1,7,-;\xff\n", KernelRecord(7e-6, "\ufffd")),
        (b"6,1;x", None),
        (b"6,1,now,-;x", None),
        (b"", None),
    ],
)
def test_a_record_of_the_kernels_log_is_read(raw, record):
    """From literal bytes; what is no record is none."""
    assert record == parse(raw)


def test_lines_about_a_process_are_found_by_its_id():
    """A longer number that contains the id is another process."""
    texts = [OUT_OF_MEMORY, "python[77]: segfault at 0", "python[177]: segfault", "77 devices"]
    records = [KernelRecord(1.0, text) for text in texts]

    assert texts[:2] == list(lines_about(77, records))


def test_gpu_faults_are_found():
    """NVIDIA's driver logs them by this name."""
    fault = "NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus."
    records = [KernelRecord(1.0, "usb 1-1: new device"), KernelRecord(2.0, fault)]

    assert [fault.removeprefix("NVRM: ")] == list(gpu_faults(records))


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (512 * MIB, "512 MiB"),
        (1000 * MIB, "1000 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (3 << 40, "3 TiB"),
    ],
)
def test_bytes_are_written_for_people(count, words):
    """In the units of the kernel."""
    assert words == in_bytes(count)


def test_the_kernel_can_be_asked_here():
    """Real files of this machine; this process was not killed."""
    kernel = KernelWatch()
    kernel.begin()

    facts = gather(-signal.SIGTERM, os.getpid(), kernel)
    kernel.end()

    assert (-signal.SIGTERM, 0) == (facts.exitcode, facts.oom_kills)
    assert facts.shared_memory is not None


def test_an_unknown_count_is_not_taken_for_none():
    """No kernel's word, no claim."""
    facts = gather(KILL, os.getpid(), KernelWatch())

    assert (None, None) == (facts.oom_kills, facts.memory_limit)
