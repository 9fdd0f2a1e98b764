"""What the engine needs of the outside."""

from __future__ import annotations

from dataclasses import dataclass

from mechaway_core.http import Http
from mechaway_core.ports import Clock, Files, Tables
from mechaway_core.postgres import Postgres
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.vault import Vault


@dataclass(frozen=True, slots=True)
class World:
    """What the engine needs of the outside."""

    settings: Settings
    sandbox: Sandbox
    tables: Tables
    clock: Clock
    vault: Vault
    http: Http
    postgres: Postgres
    files: Files
