"""Secrets, locked: what `$secret.NAME` stands for.

Each project has a data key of its own, kept in its store as the `KeyRing` wrapped it; each secret is locked with that key. Whoever
has the store but not the master key has nothing, and a secret that was moved to another name, version or project does not open.
"""

from mechaway_core.vault.vault import MOST_BYTES, SecretInfo, Vault

__all__ = ["MOST_BYTES", "SecretInfo", "Vault"]
