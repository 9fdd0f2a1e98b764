"""The node types: one file each here, and those that other packages offer by the entry point group `mechaway.nodes`.

An entry point names a `Node` subclass; its class name is the type's name:

    [project.entry-points."mechaway.nodes"]
    Shout = "my_package.shout:Shout"
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module

from mechaway_core.node import Node

# Written out, not discovered: a listing costs a cold start nothing and says what there is.
BUILT_IN = {
    "CronTrigger": "cron_trigger",
    "ErrorTrigger": "error_trigger",
    "FunLogic": "fun_logic",
    "HTTPClient": "http_client",
    "PGDynTableWriter": "pg_dyn_table_writer",
    "PGQuery": "pg_query",
    "Respond": "respond",
    "SimpleTableQuery": "simple_table_query",
    "SimpleTableReader": "simple_table_reader",
    "SimpleTableWriter": "simple_table_writer",
    "Stop": "stop",
    "Webhook": "webhook",
}

log = logging.getLogger("mechaway.nodes")


@cache
def catalogue() -> dict[str, type[Node]]:
    """Every node type by name, sorted. A broken plug-in is logged and left out; it must not keep the others from running."""
    found = {name: _built_in(name) for name in BUILT_IN}
    from importlib import metadata  # with a look at every package that is installed, 20 ms

    for entry in metadata.entry_points(group="mechaway.nodes"):
        try:
            node_type = entry.load()
        except Exception:
            log.exception("the node type %s of %s cannot be loaded", entry.name, entry.value)
            continue
        if not (isinstance(node_type, type) and issubclass(node_type, Node)) or node_type.abstract:
            log.error("the entry point %s = %s does not name a node type", entry.name, entry.value)
        elif node_type.__name__ in found:
            log.error("the node type %s of %s is left out: there is one of that name already", node_type.__name__, entry.value)
        else:
            found[node_type.__name__] = node_type
    return dict(sorted(found.items()))


def find_type(name: str) -> type[Node] | None:
    """The node type of a name. One of ours is had without the rest of the catalogue: a cold start imports what its workflow uses."""
    if name in BUILT_IN and not catalogue.cache_info().currsize:
        return _built_in(name)
    return catalogue().get(name)


def _built_in(name: str) -> type[Node]:
    node_type: type[Node] = getattr(import_module(f"{__name__}.{BUILT_IN[name]}"), name)
    return node_type
