"""Says which signals are one: a scheduler signals all nodes of a job, and each agent hears of it.

The agents of a round number the signals of each kind from 0. The agent that receives one takes the
next number and announces it; what is announced under a number is one signal, however many agents
received it. An agent that hears of a signal first and receives it within ``ECHO_S`` has received
an echo. So several signals in a row reach each worker several times, and a signal that comes to
each node in turn reaches it once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import Signals

ECHO_S = 5.0
"""How much later than another node a node may receive the same signal."""

HOLD_S = 1.0
"""How long an agent waits for the echo of a signal that came to all processes of another node."""


class SignalEchoes:
    """What one agent knows of the signals of its round."""

    def __init__(self) -> None:
        self._known: dict[Signals, int] = {}
        self._echoes_until: dict[Signals, list[float]] = {}

    def receive(self, number: Signals, now: float) -> int | None:
        """Take in a signal that this process received.

        Returns:
            Its number in the round, for an announcement; None: it is the echo of another node's.
        """
        echoes = [at for at in self._echoes_until.get(number, ()) if at > now]
        self._echoes_until[number] = echoes[1:]
        if echoes:
            return None
        count = self._known.get(number, 0)
        self._known[number] = count + 1
        return count

    def learn(self, number: Signals, count: int, now: float) -> bool:
        """Take in what an agent announced; return whether it is news to this one.

        Args:
            now: By a monotonic clock, in seconds.
        """
        if count < self._known.get(number, 0):
            return False
        self._known[number] = count + 1
        self._echoes_until.setdefault(number, []).append(now + ECHO_S)
        return True
