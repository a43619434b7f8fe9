"""What a round may change of the one before: restarts, places and the order of survivors."""

from elrun.rendezvous.api.handler import VerdictKind

from .facts import Violation


def must_follow(each, past, stores):
    """Judge whether a round may come after the one before, and what it keeps of it.

    Args:
        each: The round, which has just been sealed.
        past: The round before; None if nothing is known of it.
        stores: What is known of other stores that the run has, if it may have some.
    """
    number, roster = each.number, each.roster
    if stores and not roster.members:
        return  # whoever was to bring the round along has died
    if past is None or past.roster is None or past.verdict is None:
        raise Violation(f"round {number} is sealed before round {number - 1} has ended")
    if past.verdict.kind.ends_run and roster.members:
        raise Violation(f"round {number} follows {past.verdict.kind.value!r}")
    spent = roster.restart_count - past.roster.restart_count
    is_known = spent > 0 and stores and _is_known(roster)
    if not is_known and (
        spent not in (0, 1) or (spent and past.verdict.kind is not VerdictKind.WORKER_FAILED)
    ):
        raise Violation(
            f"{past.verdict.kind.value!r} makes {past.roster.restart_count} restarts "
            f"{roster.restart_count}"
        )
    displaced = each.displaced_survivors()
    if displaced:
        raise Violation(f"newcomers take the places of {displaced} in round {number}")
    survivors = [
        (member.node.origin.group_rank, machine)
        for member, machine in each.staying()
        if member.node.origin is not None and member.node.origin.round == past.number
    ]
    ranks = [rank for rank, _ in survivors]
    if ranks != sorted(set(ranks)):
        raise Violation(f"survivors change their order in round {number}: {ranks}")
    for rank, machine in survivors:
        if past.members[rank] is not machine:
            raise Violation(
                f"{machine} calls itself rank {rank} of round {past.number}, which is "
                f"{past.members[rank]}"
            )


def _is_known(roster):
    """Return whether a member knows of as many restarts from another store."""
    known = [member.node.restarts for member in roster.members]
    return roster.restart_count in known
