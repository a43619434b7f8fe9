"""The limits of a process that has ended are read until it is reaped."""

import os
import resource

from elrun.agent.failures.limits import Limits, limits_of, parse

TEXT = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              2                    600                  seconds
Max file size             unlimited            unlimited            bytes
Max open files            64                   64                   files
Max locked memory         8388608              8388608              bytes
"""


def test_the_kernel_s_table_is_read():
    """And the CPU time that was used, whatever the program's name is."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"1 (a) b) Z 1 1 1 0 -1 4 0 0 0 0 {ticks} {2 * ticks} 0 0"

    assert Limits(
        cpu_s=2, cpu_hard_s=600, open_files=64, locked_bytes=8388608, cpu_used_s=3.0
    ) == parse(TEXT, stat)


def test_what_can_t_be_read_is_no_limit():
    """The process is reaped, or its files are cut off."""
    assert [Limits(), Limits(), Limits()] == [limits_of(0), parse(""), parse("Max open files")]


def test_a_process_that_is_not_reaped_shows_its_own_limits():
    """Not those of its parent."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77))
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    found = limits_of(pid)

    os.waitpid(pid, 0)
    assert (77, Limits()) == (found.open_files, limits_of(pid))
