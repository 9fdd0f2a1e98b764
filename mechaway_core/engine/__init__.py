"""The engine: walks a plan from one trigger and puts every step on record.

1. A run begins at a trigger with its items; only what the trigger can reach takes part, in the order of the plan. The secrets that
   it needs are opened first, all of them, or the run fails before any node acts.
2. A node that has a live incoming edge takes the items of its live parents, in the order of the edges. A node without one is
   skipped, and so on down. An empty list is a list: the node runs.
3. An attempt has a deadline, the nearer of its own and the run's; everything a node does through its context keeps to it. A run that is
   cancelled ends what it has in flight, in all its branches; whatever an attempt fails with after that is the end of the run.
4. An attempt that fails is made again as `retry` says. When none succeeded, `on_error` says what becomes of the items: the run
   stops, or they go on as `{"error": …}` by the exit `main` or `error`. Nodes that act once per item fail item by item.
5. What a node gives is put on its exits, and the walk goes on. In a run with secrets everything that leaves a node (items, errors, log
   lines, the answer) is cleaned of their values first: no other node, script, record or caller sees them.

A plan that is a chain is walked in the caller's thread. Where branches can run side by side, the caller's thread takes ready nodes
one by one and idle helper threads take others; the caller never waits for a helper to come free, so runs cannot block each other.
The result is that of walking alone: inputs are put together in the order of the document, a node that fails does not keep those
before it in the plan from running, and the failure that counts is the first in the plan. (Nodes after it may have run already.)
"""

from mechaway_core.engine.engine import Engine
from mechaway_core.engine.walk import Carried
from mechaway_core.engine.world import World

__all__ = ["Carried", "Engine", "World"]
