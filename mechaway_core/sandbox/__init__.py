"""Lua with a hard budget: scripts and expressions run in processes that can be killed, in a box that shows them JSON and nothing else.

sandbox.py   run, evaluate, check: what callers see
pool.py      which process makes which call
process.py   one process, seen from here
worker.py    the program of that process
box/         what a script can see, and the way in and out, in Lua: box.lua for every call, the other files for those that need them
"""

from mechaway_core.sandbox.sandbox import Chunk, Limits, LuaExpression, Outcome, Sandbox, ScriptFailed

__all__ = ["Chunk", "Limits", "LuaExpression", "Outcome", "Sandbox", "ScriptFailed"]
