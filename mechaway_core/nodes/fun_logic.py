"""The node that runs a Lua script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from mechaway_core.bounds import Ge, Gt
from mechaway_core.node import Context, Items, Node, param
from mechaway_core.settings import Settings


class FunLogic(Node):
    """Transform all items at once with a Lua 5.4 script.

    `data` is the list of items, `data.score` is short for `data[1].score`, and `item` is the first one; `query`, `headers`, `path`
    and `run` tell about the request and the run. A returned list is the items, anything else becomes one item, nothing becomes null.
    """

    group: ClassVar[str] = "Logic"

    script: str = param("Lua: an expression, or a chunk with `return`.")
    memory_mb: Annotated[int, Ge(1)] | None = param("Memory the script may use, in MB; the server's default when left out.", None)
    timeout: Annotated[float, Gt(0)] | None = param("Seconds the script may take; the server's default when left out.", None)

    def check(self, inputs: int, settings: Settings) -> Iterator[tuple[str, str]]:
        if not self.script.strip():
            yield "script", "the script is empty"
        if self.memory_mb is not None and self.memory_mb > settings.lua_memory_mb_max:
            yield "memory_mb", f"this server allows at most {settings.lua_memory_mb_max} MB (MECHAWAY_LUA_MEMORY_MB_MAX)"
        if self.timeout is not None and self.timeout > settings.lua_timeout_max:
            yield "timeout", f"this server allows at most {settings.lua_timeout_max:g} s (MECHAWAY_LUA_TIMEOUT_MAX)"

    def scripts(self) -> Mapping[str, str]:
        return {"script": self.script}

    def run(self, items: Items, ctx: Context) -> Items:
        given = ctx.lua(self.script, items, memory_mb=self.memory_mb, timeout=self.timeout)
        return given if isinstance(given, list) else [given]
