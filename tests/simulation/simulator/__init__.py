"""A simulator of the rendezvous: real nodes in an invented world, where everything goes wrong.

*What runs.* Not a model of the protocol, but the protocol: each node is a real ``RoundMachine``
with its procedures, so whatever is found here is true of what users run. Invented are the things
around the machine: what drives it (``node.py``), the clocks, the workers, the agent (``agent.py``),
whose decisions are the real policy's, and the store with the way that leads to it.

*The world* (``world.py``) has one agenda of what happens when. A machine takes one event, and its
actions put further events on the agenda. Then time leaps to the next thing on the agenda; nobody
ever sleeps, and a minute takes milliseconds. Chance decides how long each message travels, hence
which comes first; and chance is drawn from a seed alone, so the same seed makes the same history,
to the last step, wherever and whenever it is made.

*What goes wrong* (``faults.py``) is drawn from the seed as well. Each request may find its node
dying just before it takes effect or just after it; it may get lost, or its answer, or it may come
twice. Nodes die singly and all at once, stand still, lose sight of the store, are told to leave,
and come anew; workers fail and succeed; the store goes away and comes back; clocks run at half the
speed or at twice. There are two kinds of stores, as etcd and elrun's store server fail in different
manners (``connection.py``). A run has one store (``sites.py``), or, in every fifth history, one
after the other at several endpoints, whose nodes die and whose cables break (``endpoints.py``).

*The witness* (``witness.py``) sees every write at the moment of its effect, and every node that
starts workers. It takes nobody's word for anything, and raises ``Violation`` as soon as one of the
protocol's promises is broken.

*The end* (``history.py``). After some seconds nothing goes wrong any more. Then all that live must
come to one round or end within a bounded time, and, once their workers succeed, all must end. A
node that waits for what never comes is found there.

*The crowd* (``scale.py``). One history of ten thousand nodes, in which only one dies.

*The words* (``words.py``). A history that fails is made once more, with a narrator. So a million
good ones cost nothing for words, and the bad one is told in full.
"""
