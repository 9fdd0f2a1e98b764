"""What a node costs in long chains and wide graphs. Driven in this process: engine and sandbox, no HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, ClassVar

from bench.report import Row, at_most, information
from bench.setup import PROJECT, Bench, interleaved
from mechaway_core.engine import Engine, World
from mechaway_core.folders import FolderFiles, FolderStore, FolderTables
from mechaway_core.http import Http
from mechaway_core.local import make_sandbox
from mechaway_core.local.clock import LocalClock
from mechaway_core.local.keyring import LocalKeyRing
from mechaway_core.node import Context, Items, Node
from mechaway_core.nodes import catalogue
from mechaway_core.postgres import Postgres
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.vault import Vault
from mechaway_core.workflow import Plan, compile_plan

SHORT, LONG, LUA, WIDE = 10, 1000, 100, 32
ROUNDS = 7


class Pass(Node):
    """Give what was taken: all that is left is the engine."""

    group: ClassVar[str] = "Bench"

    def run(self, items: Items, ctx: Context) -> Items:
        return items


def measure(bench: Bench) -> Iterator[Row]:
    """Cost per node of chains; wide graphs beside chains of the same size."""
    settings = Settings(data_dir=bench.folder / "data")
    sandbox = make_sandbox(settings)
    files = ProjectFiles(settings)
    clock = LocalClock()
    vault = Vault(FolderStore(files), LocalKeyRing(settings), clock)
    engine = Engine(World(settings, sandbox, FolderTables(files), clock, vault, Http(settings), Postgres(settings), FolderFiles(files)))
    catalogue()["Pass"] = Pass
    try:
        with closing(sandbox), closing(engine):
            yield from _chains(engine)
            yield from _branches(engine)
    finally:
        del catalogue()["Pass"]


def _chains(engine: Engine) -> Iterator[Row]:
    short, long = _seconds(engine, (_chain(SHORT, "Pass"), 300), (_chain(LONG, "Pass"), 5))
    detail = f"{long / LONG * 1e6:.3g} ÷ {short / SHORT * 1e6:.3g} µs a node"
    yield at_most(f"cost per node, chain of {LONG:,} ÷ chain of {SHORT}", (long / LONG) / (short / SHORT), 1, detail=detail)
    lua_short, lua_long = _seconds(engine, (_chain(SHORT, "FunLogic"), 10), (_chain(LUA, "FunLogic"), 1))
    detail = f"{lua_long / LUA * 1e6:,.0f} ÷ {lua_short / SHORT * 1e6:,.0f} µs a node"
    yield information(
        f"the same with FunLogic nodes, chain of {LUA} ÷ chain of {SHORT}", (lua_long / LUA) / (lua_short / SHORT), detail=detail
    )


def _branches(engine: Engine) -> Iterator[Row]:
    for node_type, times in (("Pass", 20), ("FunLogic", 2)):
        wide, chain = _seconds(engine, (_fan(WIDE, node_type), times), (_chain(WIDE + 2, node_type), times))
        detail = f"{wide * 1000:.3g} ÷ {chain * 1000:.3g} ms"
        yield information(f"{WIDE} {node_type} branches side by side ÷ chain of as many", wide / chain, detail=detail)


def _seconds(engine: Engine, *plans: tuple[Plan, int]) -> list[float]:
    """The median time of a run of each plan, made so many times a round, interleaved."""
    results = interleaved(ROUNDS, [partial(_time, engine, plan, times) for plan, times in plans])
    return [median(one) for one in results]


def _time(engine: Engine, plan: Plan, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        run = engine.prepare(plan, plan.triggers[0], PROJECT, "manual")
        engine.run(plan, run, [{"student_id": "s123", "score": 85}])
        if run.status != "succeeded":
            raise RuntimeError(f"the run ended as {run.status}: {run.failure}")
    return (time.perf_counter() - began) / times


def _node(name: str, node_type: str) -> dict[str, Any]:
    params = {"FunLogic": {"script": "return data"}, "Webhook": {"path": "/go"}}.get(node_type, {})
    return {"id": name, "node_type": node_type, "params": params}


def _chain(count: int, node_type: str) -> Plan:
    """A trigger and nodes in a row, `count` in all."""
    names = ["hook", *(f"n{number}" for number in range(count - 1))]
    nodes = [_node("hook", "Webhook"), *(_node(name, node_type) for name in names[1:])]
    edges = [{"from": above, "to": below} for above, below in pairwise(names)]
    return compile_plan({"id": f"chain-{count}", "nodes": nodes, "edges": edges})


def _fan(count: int, node_type: str) -> Plan:
    """A trigger, `count` nodes below it, and one below them all."""
    names = [f"n{number}" for number in range(count)]
    nodes = [_node("hook", "Webhook"), *(_node(name, node_type) for name in names), _node("join", "Pass")]
    edges = [{"from": "hook", "to": name} for name in names] + [{"from": name, "to": "join"} for name in names]
    return compile_plan({"id": f"fan-{count}", "nodes": nodes, "edges": edges})
