"""What the engine needs of the outside."""

from __future__ import annotations

from typing import NamedTuple

from mechaway_core.http import Http
from mechaway_core.ports import Clock, Files, Tables
from mechaway_core.postgres import Postgres
from mechaway_core.sandbox import Sandbox
from mechaway_core.settings import Settings
from mechaway_core.vault import Vault


class World(NamedTuple):
    """What the engine needs of the outside."""

    settings: Settings
    sandbox: Sandbox
    tables: Tables
    clock: Clock
    vault: Vault
    http: Http
    postgres: Postgres
    files: Files
