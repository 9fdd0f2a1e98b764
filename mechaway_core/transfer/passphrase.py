"""Secrets under a passphrase, for as long as they travel.

The key comes from the passphrase by scrypt (RFC 7914) at the cost that OWASP's Password Storage Cheat Sheet advises: 128 MB and about half
a second for each guess. The secrets are sealed as one text by AES-256-GCM, together with what they are bound to.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from mechaway_core import jsontext
from mechaway_core.errors import Invalid, Malformed, TooLarge
from mechaway_core.vault.sealed import KEY_BYTES, open_sealed, seal

LEAST = 12  # characters of a passphrase
MOST = 1024
MOST_BYTES = 16_000_000  # of all secrets of an archive

N, R, P = 2**17, 8, 1  # the cost of scrypt
_MEMORY = 256 * 1024 * 1024  # bytes that scrypt may use; it needs 128 * n * r
_PURPOSE = "mechaway export secrets 1"


def check_passphrase(passphrase: str) -> None:
    """Raises `Invalid` for a passphrase that is too short to keep anybody out, or no text."""
    if not LEAST <= len(passphrase) <= MOST:
        raise Invalid(f"a passphrase has {LEAST} to {MOST} characters; make one with: openssl rand -base64 24")
    try:
        passphrase.encode()
    except UnicodeEncodeError:
        raise Invalid("a passphrase must be text in UTF-8") from None


def lock(secrets: Mapping[str, str], passphrase: str, bound: Sequence[str]) -> dict[str, Any]:
    """Secrets by name as JSON that opens only with the passphrase and together with what it is `bound` to."""
    plain = jsontext.encode(dict(secrets))
    if len(plain) > MOST_BYTES // 2:
        raise TooLarge(f"the secrets take more than {MOST_BYTES // 2_000_000} MB; they cannot be exported together")
    salt = os.urandom(16)
    sealed = seal(_key(passphrase, salt), plain, _PURPOSE, *bound)
    return {**_cost(), "salt": base64.b64encode(salt).decode(), "sealed": base64.b64encode(sealed).decode()}


def unlock(locked: Any, passphrase: str, bound: Sequence[str]) -> dict[str, str]:
    """The secrets again. Raises `Malformed` for what is no such thing, `Invalid` for another passphrase or another archive."""
    if not isinstance(locked, dict) or {name: locked.get(name) for name in _cost()} != _cost():
        raise Malformed("the secrets of the archive are locked in a way that this Mechaway does not know")
    try:
        salt, sealed = (base64.b64decode(locked[name], validate=True) for name in ("salt", "sealed"))
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise Malformed("the secrets of the archive cannot be read") from None
    plain = open_sealed(_key(passphrase, salt), sealed, _PURPOSE, *bound)
    if plain is None:
        raise Invalid("the secrets do not open: the passphrase is another one, or the archive was changed since it was made")
    secrets = jsontext.decode(plain, "the secrets of the archive")
    if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
        raise Malformed("the secrets of the archive are no names and texts")
    return secrets


def _cost() -> dict[str, Any]:
    """What an archive says of how its key is made. There is one way, so that nobody's archive chooses what opening it costs."""
    return {"kdf": "scrypt", "n": N, "r": R, "p": P}


def _key(passphrase: str, salt: bytes) -> bytes:
    check_passphrase(passphrase)
    typed = unicodedata.normalize("NFC", passphrase).encode()  # keyboards differ in how they write an ä
    return hashlib.scrypt(typed, salt=salt, n=N, r=R, p=P, maxmem=_MEMORY, dklen=KEY_BYTES)
