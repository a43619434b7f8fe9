"""What the machine says about an exception: a table of texts and facts."""

import pytest
from elrun.agent.failures.advice import (
    MachineFacts,
    Topic,
    advise,
    gpu_holder_in,
    port_in,
    topic_of,
)
from elrun.agent.failures.limits import Limits

TORCH_PORT = (
    "DistNetworkError: The server socket has failed to listen on any local network address. "
    "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
)
OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total "
    "capacity of 79.10 GiB of which 1.2 GiB is free. Process 71 has 70.00 GiB memory in use. "
    "Process 72 has 512.00 MiB memory in use."
)
CASES = [
    (TORCH_PORT, MachineFacts(port=29500, port_holder="'python serve.py' (pid 9)"),
     "port 29500 is taken by 'python serve.py' (pid 9)"),
    ("OSError: [Errno 98] Address already in use", MachineFacts(), ""),
    ("OSError: [Errno 28] No space left on device", MachineFacts(full_disks=(("/data", 65536),)),
     "/data (64 KiB) is full"),
    ("OSError: [Errno 28] No space left on device: 'x'",
     MachineFacts(full_disks=(("/data", 0), ("/", 1 << 40))),
     "/data (it has no inodes left), / (1 TiB) are full"),
    ("RuntimeError: basic_ios::clear: iostream error", MachineFacts(), ""),
    ("RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2>: ",
     MachineFacts(shared_memory=(64 << 20, 0)),
     "/dev/shm has 64 MiB, of which 0 bytes are free now: enlarge it (docker: --shm-size)"),
    ("OSError: [Errno 27] File too large", MachineFacts(limits=Limits(file_bytes=4096)),
     "a file may have 4 KiB at most (ulimit -f)"),
    ("OSError: [Errno 24] Too many open files: 'x'", MachineFacts(limits=Limits(open_files=64)),
     "a process may have 64 open files at most (ulimit -n)"),
    ("OSError: [Errno 24] Too many open files: 'x'", MachineFacts(), ""),
    ("RuntimeError: can't start new thread", MachineFacts(limits=Limits(processes=50)),
     "a user may have 50 processes and threads at most (ulimit -u)"),
    ("RuntimeError: can't start new thread", MachineFacts(limits=Limits(processes=96365)), ""),
    ("MemoryError", MachineFacts(limits=Limits(address_bytes=1 << 28)),
     "a process may have 256 MiB of address space at most (ulimit -v)"),
    ("MemoryError", MachineFacts(), ""),
    ("RuntimeError: ibv_reg_mr failed: Cannot allocate memory",
     MachineFacts(limits=Limits(locked_bytes=8 << 20)),
     "a process may lock 8 MiB of memory at most (ulimit -l)"),
    (OUT_OF_MEMORY, MachineFacts(gpu_holder="70.00 GiB by 'python a.py' (pid 71)"),
     "another process holds memory of it: 70.00 GiB by 'python a.py' (pid 71)"),
    ("RuntimeError: CUDA error: invalid device ordinal", MachineFacts(gpus=1),
     "a worker of this node sees 1 GPU"),
    ("RuntimeError: No CUDA GPUs are available",
     MachineFacts(gpus=0, gpu_choice="CUDA_VISIBLE_DEVICES is ''"),
     "a worker of this node sees no GPU (CUDA_VISIBLE_DEVICES is '')"),
    ("AssertionError: Torch not compiled with CUDA enabled", MachineFacts(),
     "this torch was built without CUDA: it can use no NVIDIA GPU"),
    ("SSLCertVerificationError: certificate verify failed: certificate is not yet valid",
     MachineFacts(now="1970-01-01 00:10 UTC"),
     "by the clock of this node it is 1970-01-01 00:10 UTC"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "facts", "sentence"), CASES)
def test_a_sentence_for_each_cause_that_is_certain(words, facts, sentence):
    """No fact, no sentence."""
    topic = topic_of(words)

    assert topic is not None
    assert sentence == advise(topic, facts)


@pytest.mark.parametrize(
    "words", ["ValueError: x", "KeyError: 'port'", "", "TimeoutError: timed out"]
)
def test_an_exception_of_the_user_s_own_has_no_topic(words):
    """The machine knows nothing of it."""
    assert topic_of(words) is None


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (TORCH_PORT, 29500),
        (
            "OSError: [Errno 98] error while binding on address ('0.0.0.0', 8000): x",
            8000,
        ),
        ("OSError: cannot bind 127.0.0.1:6006: address already in use", 6006),
        ("OSError: [Errno 98] Address already in use", 0),
        ("port: 99999", 0),
    ],
)
def test_the_port_is_found_where_a_text_names_it(words, port):
    """As torch, asyncio and others write it."""
    assert port == port_in(words)


def test_the_other_process_that_holds_most_of_a_gpu_is_found():
    """Not the worker itself."""
    assert [(71, "70.00 GiB"), (72, "512.00 MiB"), (0, "")] == [
        gpu_holder_in(OUT_OF_MEMORY, 0),
        gpu_holder_in(OUT_OF_MEMORY, 71),
        gpu_holder_in("CUDA out of memory.", 1),
    ]


def test_the_memory_of_a_gpu_is_not_taken_for_that_of_the_host():
    """Both are called out of memory."""
    assert Topic.GPU_MEMORY is topic_of(OUT_OF_MEMORY)
