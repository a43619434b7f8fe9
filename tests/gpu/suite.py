"""What only a GPU can show, as one command on a bare machine: `make gpu`.

    PYTHONPATH=.links python3 tests/gpu/suite.py [--only NAME] [--on cpu] [--json FILE]

It needs Python, torch for CUDA and one GPU; no network, no installation and no pytest. What is
missing is skipped by name. `--on cpu` runs the same jobs with gloo on the CPU, as far as they mean
something there: so the suite itself is tested where there is no GPU. Each job is a real elrun in a
process of its own, and none may take longer than `TIMEOUT_S`.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_machine import TIMEOUT_S, Machine, Skip, expect, finish

MOST_OF_MEMORY = 0.6
GIB = 1 << 30
STATUS_S = 30

# Assembled by the driver, so that no compiler is needed.
WRITE_TO_NOWHERE = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry hit()
{
    .reg .b64 %at;
    mov.u64 %at, 64;
    st.global.u32 [%at], 1;
    ret;
}
"""

CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


@check
def a_collective_of_one_worker(machine):
    """init_process_group and an all-reduce, by NCCL where there is a GPU."""
    out, _ = machine.run(f"""
dist.init_process_group({machine.collective!r})
numbers = torch.ones(1 << 20, device=on)
dist.all_reduce(numbers)
sync()
say("sum", int(numbers.sum()))
dist.destroy_process_group()
""")
    expect("sum 1048576" in out, "the sum is wrong", out)


@check
def two_workers_share_a_gpu(machine):
    """Over gloo, with tensors of the GPU."""
    out, _ = machine.run(
        """
dist.init_process_group("gloo")
numbers = torch.full((1000,), rank + 1.0, device=on)
dist.all_reduce(numbers)
say("sum", int(numbers[0]))
dist.destroy_process_group()
""",
        "--standalone",
        "--nproc-per-node=2",
    )
    expect(out.count("sum 3") == 2, "two sums of 3 were expected", out)


@check
def all_gpus_are_counted(machine):
    """As torch counts them, without importing it."""
    machine.need_cuda()
    for kind in ("gpu", "auto"):
        out, _ = machine.run("say('worker')", "--standalone", f"--nproc-per-node={kind}")
        expect(out.count("worker") == machine.gpus, f"{kind}: {machine.gpus} expected", out)


@check
def visible_devices_count(machine):
    """By index and by UUID; a variable that hides all is named."""
    machine.need_cuda()
    uuid, _ = machine.run("say(f'GPU-{torch.cuda.get_device_properties(0).uuid}')")
    for value in ["0", uuid.strip(), uuid[:10]]:
        out, _ = machine.run(
            "say('sees', torch.cuda.device_count())",
            "--standalone",
            "--nproc-per-node=gpu",
            env={"CUDA_VISIBLE_DEVICES": value},
        )
        expect(out.split() == ["sees", "1"], f"CUDA_VISIBLE_DEVICES={value}", out)
    _, err = machine.run(
        "", "--standalone", "--nproc-per-node=gpu", env={"CUDA_VISIBLE_DEVICES": "-1"}, code=2
    )
    expect("CUDA_VISIBLE_DEVICES='-1' hides" in err, "the variable is not named", err)


@check
def a_virtual_local_rank_sees_one_gpu(machine):
    """As device 0."""
    machine.need_cuda()
    out, _ = machine.run(
        "say(os.environ['LOCAL_RANK'], torch.cuda.device_count())",
        "--standalone",
        f"--nproc-per-node={machine.gpus}",
        "--virtual-local-rank",
    )
    expect(set(out.splitlines()) == {"0 1"}, "each worker sees one GPU", out)


@check
def a_worker_is_bound_near_its_gpu(machine):
    """To the CPUs of the GPU's NUMA node, as the kernel names them."""
    machine.need_cuda()
    place, _ = machine.run("""
its = torch.cuda.get_device_properties(0)
say(f"{its.pci_domain_id:04x}:{its.pci_bus_id:02x}:{its.pci_device_id:02x}.0")
""")
    home = Path("/sys/bus/pci/devices", place.strip(), "numa_node")
    node = home.read_text().strip() if home.exists() else "-1"
    cpus = Path(f"/sys/devices/system/node/node{node}/cpulist")
    if not cpus.exists():
        raise Skip("the kernel does not say near which CPUs the GPU is")
    spans = [each.split("-") for each in cpus.read_text().strip().split(",")]
    near = {cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)}
    if not near & os.sched_getaffinity(0):
        raise Skip("none of the CPUs near the GPU may be used here")
    out, _ = machine.run(
        "say(*sorted(os.sched_getaffinity(0)))", "--standalone", "--numa-binding=node"
    )
    bound = set(map(int, out.split()))
    expect(bound == near & os.sched_getaffinity(0), f"bound to {bound}, node {node} has {near}")


@check
def preloaded_workers_use_the_gpu(machine):
    """torch is imported once, CUDA starts in each worker."""
    out, _ = machine.run(
        f"""
dist.init_process_group({machine.collective!r})
numbers = torch.ones(8, device=on)
dist.all_reduce(numbers)
sync()
say("sum", int(numbers.sum()))
dist.destroy_process_group()
""",
        "--standalone",
        "--preload=torch",
    )
    expect("sum 8" in out, "the sum is wrong", out)


@check
def a_preload_that_starts_cuda_is_refused(machine):
    """A forked process can't use it; the workers are started without."""
    machine.need_cuda()
    (machine.folder / "starts_cuda.py").write_text("import torch\ntorch.zeros(1, device='cuda')\n")
    out, err = machine.run(
        "say(int(torch.ones(4, device=on).sum()))",
        "--standalone",
        "--preload=starts_cuda",
        env={"PYTHONPATH": f"{machine.folder}:{os.environ.get('PYTHONPATH', '')}"},
    )
    expect("4" in out.split(), "the worker did not run", out, err)
    expect("CUDA" in err, "nothing says why there is no preloading", err)


@check
def memory_is_free_for_the_next_attempt(machine):
    """A worker that holds most of it is killed; its successor takes as much."""
    machine.need_cuda()
    out, _ = machine.run(
        f"""
free, whole = torch.cuda.mem_get_info()
say("attempt", attempt, "free", round(free / whole, 2), "at", time.time())
block = torch.empty(int(whole * {MOST_OF_MEMORY}), dtype=torch.uint8, device=on)
sync()
if attempt < 2:
    say("dies at", time.time())
    os.kill(os.getpid(), signal.SIGKILL)
""",
        "--standalone",
        "--max-restarts=2",
    )
    expect(out.count("attempt") == 3, "three attempts were expected", out)
    begun = [float(each) for each in re.findall(r"free \S+ at (\S+)", out)]
    ended = [float(each) for each in re.findall(r"dies at (\S+)", out)]
    return {"gap_s": round(max(b - e for b, e in zip(begun[1:], ended, strict=True)), 2)}


@check
def out_of_memory_is_named(machine):
    """The exception with its figures is in the first line."""
    machine.need_cuda()
    _, err = machine.run("torch.empty(1 << 50, dtype=torch.uint8, device=on)", code=1)
    expect("OutOfMemoryError: CUDA out of memory" in err, "the cause is not named", err)


@check
def a_device_side_assert_is_named(machine):
    """It comes late, from whichever call asks next."""
    machine.need_cuda()
    _, err = machine.run(
        """
torch.zeros(4, device=on)[torch.tensor([9], device=on)]
sync()
""",
        code=1,
    )
    expect("device-side assert" in err, "the cause is not named", err)


@check
def an_illegal_address_is_named(machine):
    """With the kernel's Xid, where its log can be read."""
    machine.need_cuda()
    job = machine.start(f"""
import ctypes
torch.zeros(1, device=on)
cuda, module, kernel = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_void_p()
if code := cuda.cuModuleLoadData(ctypes.byref(module), {WRITE_TO_NOWHERE!r}):
    say("the driver refuses the program:", code)
    sys.exit()
cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"hit")
cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
sync()
""")
    out, err = finish(job)
    if "the driver refuses" in out:
        raise Skip(out.strip())
    expect(job.returncode == 1, f"exit code {job.returncode}", err)
    expect("illegal memory access" in err, "the cause is not named", err)
    return {"xid": "Xid" in err}


@check
def a_hang_in_a_kernel_is_placed(machine):
    """A signal stops the job; the report says in which line it waited for the GPU."""
    job = machine.start(
        """
if on == "cuda":
    torch.cuda._sleep(1 << 45)
say("hangs")
sync()
time.sleep(1000)
""",
        "--shutdown-timeout=5",
    )
    line = job.stdout.readline()
    time.sleep(2)
    job.send_signal(signal.SIGTERM)
    _, err = finish(job)
    expect(line == "hangs\n" and job.returncode == 143, f"exit code {job.returncode}", err)
    expect(re.search(r"rank 0 in \S+ \(job", err), "the place is not named", err)


@check
def a_worker_killed_in_a_kernel_leaves_nothing(machine):
    """Its process is gone, and the GPU's memory is free."""
    machine.need_cuda()
    free_before = free_memory(machine)
    job = machine.start(f"""
block = torch.empty({4 * GIB}, dtype=torch.uint8, device=on)
torch.cuda._sleep(1 << 36)
say(os.getpid())
torch.cuda.synchronize()
time.sleep(1000)
""")
    pid = int(job.stdout.readline())
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _, err = finish(job)
    took_s = time.monotonic() - started
    expect(job.returncode == 137, f"exit code {job.returncode}", err)
    expect(not Path(f"/proc/{pid}").exists(), "the process is still there")
    lost = free_before - free_memory(machine)
    expect(lost < 2 * GIB, f"{lost / GIB:.1f} GiB are not free again")
    return {"noticed_s": round(took_s, 2)}


def free_memory(machine):
    out, _ = machine.run("say(torch.cuda.mem_get_info()[0])")
    return int(out)


@check
def the_status_shows_what_the_gpu_does(machine):
    """How busy it is, and how much of its memory is in use, from the driver's library."""
    if importlib.util.find_spec("psutil") is None:
        raise Skip("needs psutil")
    job = machine.start(
        f"""
if on == "cuda":
    block = torch.empty({4 * GIB}, dtype=torch.uint8, device=on)
say("begun")
while True:
    if on == "cuda":
        torch.cuda._sleep(1 << 31)
        sync()
    else:
        time.sleep(1)
""",
        "--rdzv-id=seen",
        env={"ELRUN_RUN_DIR": str(machine.folder / "runs")},
    )
    try:
        expect(job.stdout.readline() == "begun\n", "the job has not begun")
        rank = seen_rank(machine)
    finally:
        job.send_signal(signal.SIGTERM)
        _, err = finish(job)
    expect(job.returncode == 143, f"exit code {job.returncode}", err)
    if machine.on == "cpu":
        expect(rank["gpu_memory_bytes"] is None, f"no GPU was expected: {rank}")
        return {}
    if rank["gpu_memory_bytes"] is None and not answers_nvml():
        raise Skip("NVML does not say what the GPU does")
    expect((rank["gpu_memory_bytes"] or 0) >= 4 * GIB, f"4 GiB were expected: {rank}")
    expect(rank["gpu_percent"], f"a busy GPU was expected: {rank}")
    return {name: rank[name] for name in ("gpu_percent", "gpu_memory_bytes")}


def seen_rank(machine):
    """Return what the status says of rank 0, once the driver's figures have caught up."""
    words = [sys.executable, "-m", "elrun", "status", "seen", "--format", "json"]
    env = {**machine.env, "ELRUN_RUN_DIR": str(machine.folder / "runs")}
    deadline = time.monotonic() + STATUS_S
    while True:
        asked = subprocess.run(
            words, capture_output=True, check=False, env=env, text=True, timeout=TIMEOUT_S
        )
        late = time.monotonic() > deadline
        if asked.returncode:  # the job is known a moment after it has begun
            expect(not late, f"the status ends with {asked.returncode}", asked.stderr)
        else:
            (rank,) = json.loads(asked.stdout)["ranks"]
            if late or machine.on == "cpu" or rank["gpu_percent"]:
                return rank
        time.sleep(1)


def answers_nvml():
    """Return whether the driver's library says how busy the GPU is: not of a part of one (MIG)."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    device, use = ctypes.c_void_p(), (ctypes.c_uint * 2)()
    return (
        nvml.nvmlInit_v2() == 0
        and nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
        and nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) == 0
    )


@check
def beside_torchrun(machine):
    """One job of one worker that all-reduces, by either."""
    script = machine.folder / "reduce.py"
    script.write_text(f"""
import os, torch, torch.distributed as dist
dist.init_process_group({machine.collective!r})
dist.all_reduce(torch.ones(8, device={machine.on!r}))
dist.destroy_process_group()
""")
    times = {"elrun": [], "torch.distributed.run": []}
    for _ in range(3):
        for module, took in times.items():
            started = time.monotonic()
            words = ["-m", module, "--standalone", "--nproc-per-node=1", script]
            subprocess.run(
                [sys.executable, *words], capture_output=True, check=True, timeout=TIMEOUT_S
            )
            took.append(time.monotonic() - started)
    return {f"{module}_s": round(sorted(took)[1], 2) for module, took in times.items()}


@check
def a_preloaded_restart(machine):
    """From a worker's death to its successor's first all-reduce."""
    out, _ = machine.run(
        f"""
dist.init_process_group({machine.collective!r})
dist.all_reduce(torch.ones(8, device=on))
sync()
say("reduced at", time.time())
if attempt < 3:
    say("dies at", time.time())
    os._exit(1)
dist.destroy_process_group()
""",
        "--standalone",
        "--preload=torch",
        "--max-restarts=3",
    )
    begun = [float(each) for each in re.findall(r"reduced at (\S+)", out)]
    ended = [float(each) for each in re.findall(r"dies at (\S+)", out)]
    gaps = sorted(b - e for b, e in zip(begun[1:], ended, strict=True))
    return {"gap_s": round(gaps[len(gaps) // 2], 2)}


def run_all(machine, only):
    """Run each check, print a line for it, and return what was found."""
    found = {}
    for name, function in CHECKS.items():
        if only not in name:
            continue
        started = time.monotonic()
        try:
            figures = function(machine) or {}
            found[name] = {"outcome": "ok", **figures}
        except Skip as skipped:
            found[name] = {"outcome": "skipped", "why": str(skipped)}
        except Exception as error:  # one check's end must not hide the others
            found[name] = {"outcome": "FAILED", "why": f"{type(error).__name__}: {error}"}
        took_s = time.monotonic() - started
        words = {key: value for key, value in found[name].items() if key != "outcome"}
        print(f"{found[name]['outcome']:8}{took_s:5.1f} s  {name.replace('_', ' ')}", words or "")
    return found


def main():
    """Run the checks; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="only checks with this in their name")
    parser.add_argument("--on", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", help="a file for what was found")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("skipped: this Python has no torch")
        return 0
    with tempfile.TemporaryDirectory(prefix="elrun-gpu-") as folder:
        machine = Machine(options.on, folder)
        if options.on == "cuda" and not machine.gpus:
            print("skipped: torch sees no GPU here")
            return 0
        found = run_all(machine, options.only)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return int(any(each["outcome"] == "FAILED" for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
