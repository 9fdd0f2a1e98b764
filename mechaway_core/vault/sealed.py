"""AES-256-GCM: bytes that only open with the same key for the same purpose."""

from __future__ import annotations

import os

import orjson

KEY_BYTES = 32
NONCE_BYTES = 12  # random; a key seals far fewer than the 2^32 texts that NIST SP 800-38D allows with random nonces


def new_key() -> bytes:
    """32 bytes of the system's randomness."""
    return os.urandom(KEY_BYTES)


class Cipher:
    """A key, ready to be used."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # some 30 ms of import, for those who keep secrets

        self._aes = AESGCM(key)
        self._does_not_open = (InvalidTag, ValueError)  # ValueError: too short to hold a nonce

    def seal(self, data: bytes, *purpose: str | int) -> bytes:
        """Nonce and ciphertext of `data`. It opens only with the same `purpose`, which is authenticated, not stored."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, data, _associated(purpose))

    def open(self, sealed: bytes, *purpose: str | int) -> bytes | None:
        """What was sealed; None when the key or purpose is another or the bytes were changed."""
        try:
            return self._aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(purpose))
        except self._does_not_open:
            return None


def seal(key: bytes, data: bytes, *purpose: str | int) -> bytes:
    """See `Cipher.seal`."""
    return Cipher(key).seal(data, *purpose)


def open_sealed(key: bytes, sealed: bytes, *purpose: str | int) -> bytes | None:
    """See `Cipher.open`."""
    return Cipher(key).open(sealed, *purpose)


def _associated(purpose: tuple[str | int, ...]) -> bytes:
    """The purpose as a JSON list: no two purposes are the same bytes, whatever stands in their parts."""
    return orjson.dumps(purpose)
