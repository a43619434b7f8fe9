"""Names of hosts, from the lists that schedulers and launchers write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

_NUMBER = r"[0-9]{1,9}"
_RANGE = rf"{_NUMBER}(?:-{_NUMBER})?"
_ITEM = rf"([^,\[\]]*)(?:\[([0-9]{{1,2}}):({_RANGE}(?:,{_RANGE})*)\]([^,\[\]]*))?"
_MOST_HOSTS = 100_000


def first_host(hosts: str) -> str:
    """Return the first name of a list as SLURM writes it: of ``a[08-10,12]b[1-2],c``, ``a08b1``."""
    name = ""
    while True:
        text, bracket, hosts = hosts.partition("[")
        text, comma, _ = text.partition(",")
        name += text
        if comma or not bracket:
            return name
        numbers, _, hosts = hosts.partition("]")
        name += numbers.replace("-", ",").partition(",")[0]


def hosts_of_open_mpi(text: str) -> list[str]:
    """Return the names in a list that Open MPI 4's mpirun gives its daemons, in their order.

    Args:
        text: Such as ``login,node[2:8-10,12].lan@0(5)``: in brackets the numbers' width and ranges.
            A list of another form, or of more hosts than any machine has, names none.
    """
    names: list[str] = []
    listed = text.partition("@")[0]
    if not re.fullmatch(rf"{_ITEM}(,{_ITEM})*", listed):
        return names
    for head, width, ranges, tail in re.findall(_ITEM, listed):
        if ranges:
            numbers = list(islice(_numbers(ranges), _MOST_HOSTS))
            names += (f"{head}{number:0{width}d}{tail}" for number in numbers)
        elif head:
            names.append(head)
        if len(names) >= _MOST_HOSTS:
            return []
    return names


def host_in_file(path: str, place: int) -> str:
    """Return a host's name from a file with one a line, a host with several slots several times.

    Args:
        path: The file; a file that is missing or can't be read names no host.
        place: Which of the different hosts, from 0.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return host_in_list((line.split()[0] for line in file if line.strip()), place)
    except OSError:
        return ""


def host_in_list(hosts: Iterable[str], place: int) -> str:
    """Return the host at a place, from 0, of the different ones in a list; "": it has fewer."""
    different = list(dict.fromkeys(hosts))
    return different[place] if place < len(different) else ""


def _numbers(ranges: str) -> Iterator[int]:
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        yield from range(int(first), int(last or first) + 1)
