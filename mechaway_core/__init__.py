"""Mechaway runs workflows: JSON documents whose nodes form a directed acyclic graph. `docs/architecture.md` is the map."""

__version__ = "0.1.0"
