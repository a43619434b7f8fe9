"""What is known of one round, by one who saw it from the beginning."""


class Violation(BaseException):  # no agent may catch it
    """Something happened that must never happen."""


class Round:
    """What is known of one round."""

    def __init__(self, number):
        self.number = number
        self.sitting = {}
        self.records = {}
        self.seats_at_the_door = None
        self.records_at_the_door = ()
        self.roster = None
        self.is_carried = False
        self.members = []
        self.verdict = None
        self.finished = set()
        self.marked = set()

    @property
    def is_sealed(self):
        return self.roster is not None

    def take_seat(self, machine, seat):
        """Note that the counter gives a node a seat; it gives one only once."""
        for number, other in self.sitting.items():
            if other is machine and number != seat:
                raise Violation(f"{machine} takes seats {number} and {seat} of round {self.number}")
        self.sit(machine, seat)

    def sit(self, machine, seat):
        """Note who sits on a seat; two can't."""
        other = self.sitting.setdefault(seat, machine)
        if other is not machine:
            if not other.is_dead:
                raise Violation(
                    f"{machine} and {other} both sit on seat {seat} of round {self.number}"
                )
            self.sitting[seat] = machine

    def shut_the_door(self, seats):
        """Note who sat down before, and whose records could be read."""
        self.seats_at_the_door = seats
        self.records_at_the_door = tuple(
            seat for seat, node in self.records.items() if not node.is_withdrawn
        )

    def displaced_survivors(self):
        """Return members of the round before that had to stay outside, for newcomers."""
        members = self.roster.members
        if all(self._survives(member.node) for member in members):
            return []
        taken = {member.seat for member in members}
        return [
            self.sitting[seat]
            for seat in self.records_at_the_door
            if seat not in taken
            and self._survives(self.records[seat])
            and not self.records[seat].is_withdrawn
            and self.sitting[seat].is_steady
        ]

    def _survives(self, node):
        return node.origin is not None and node.origin.round == self.number - 1

    def carry(self, roster, elsewhere):
        """Note that the round was sealed in another store, and that its members bring it along."""
        self.roster = roster
        self.is_carried = True
        self.members = elsewhere.members

    def seal(self, roster):
        """Note who takes part; none that came after the door was shut."""
        self.roster = roster
        if roster.round != self.number:
            raise Violation(f"the roster of round {self.number} is one of round {roster.round}")
        if roster.members and self.seats_at_the_door is None:
            raise Violation(f"round {self.number} is sealed with an open door")
        for member in roster.members:
            if member.seat >= self.seats_at_the_door:
                raise Violation(
                    f"{member.node.host} takes part in round {self.number}, whose door was shut "
                    "before it came"
                )
        self.members = [self.sitting[member.seat] for member in roster.members]
        staying = [who for _, who in self.staying()]
        if len(set(staying)) < len(staying):
            raise Violation(f"a node has two ranks in round {self.number}: {self.members}")

    def staying(self):
        """Return the roster's members that have not left their seats, and who they are.

        One that has left may be on another seat. It is missed on the first one, as if it had died
        there after its record was read.
        """
        pairs = zip(self.roster.members, self.members, strict=True)
        return [pair for pair in pairs if not self.records[pair[0].seat].is_withdrawn]
