"""The master key of an installation in AWS: a key of KMS, which never leaves it.

A data key is wrapped by one call of Encrypt and unwrapped by one of Decrypt, both bound to its project by the encryption context, and kept
as `{"kms_key": ARN, "sealed": base64}`. Only keys that the settings name are ever asked: a text that names another one, perhaps somebody
else's who would gladly open it, is refused here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from mechaway_core.aws.calls import DENIED, Meaning, calling
from mechaway_core.errors import Invalid, Locked, MechawayError
from mechaway_core.names import shorten

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

_VARIABLE = "MECHAWAY_KMS_KEY"


class KmsKeyRing:
    """A `KeyRing` over the keys of KMS in `MECHAWAY_KMS_KEY`: the first wraps, all unwrap."""

    def __init__(self, client: Callable[[], KMSClient], keys: str) -> None:
        self._client = client
        self._named = tuple(filter(None, (name.strip() for name in keys.split(","))))
        self._arns: dict[str, str] = {name: name for name in self._named if ":key/" in name}
        if not self._named:
            raise Invalid(f"no KMS key is set to lock secrets with; put its ARN into {_VARIABLE}")

    def wrap(self, project: str, key: bytes) -> bytes:
        """See `KeyRing.wrap`."""
        arn = self._arn(self._named[0])
        with calling(f'lock the key of project "{project}"', _meanings(project, arn, "kms:Encrypt")):
            answer = self._client().encrypt(KeyId=arn, Plaintext=key, EncryptionContext={"project": project})
        return orjson.dumps({"kms_key": arn, "sealed": base64.b64encode(answer["CiphertextBlob"]).decode()})

    def unwrap(self, project: str, wrapped: bytes) -> bytes:
        """See `KeyRing.unwrap`."""
        arn, sealed = _read(project, wrapped)
        if arn not in map(self._arn, self._named):
            raise Locked(
                f'the secrets of project "{project}" were locked with the KMS key {shorten(arn, 120)}, which is not in {_VARIABLE}; '
                "add it there behind the one that locks now, or delete the secrets and set them again"
            )
        with calling(f'open the key of project "{project}"', _meanings(project, arn, "kms:Decrypt")):
            answer = self._client().decrypt(KeyId=arn, CiphertextBlob=sealed, EncryptionContext={"project": project})
        return answer["Plaintext"]

    def is_current(self, wrapped: bytes) -> bool:
        """See `KeyRing.is_current`."""
        return _read("", wrapped)[0] == self._arn(self._named[0])

    def _arn(self, name: str) -> str:
        """The ARN of a key that the settings name; a key id or an alias is looked up once."""
        known = self._arns.get(name)
        if known is None:
            with calling(f"look up the KMS key {name}", _meanings("", name, "kms:DescribeKey")):
                known = self._arns[name] = self._client().describe_key(KeyId=name)["KeyMetadata"]["Arn"]
        return known


def _meanings(project: str, key: str, action: str) -> dict[str, Meaning]:
    """What KMS says about its key or the text, as errors that name them."""

    def locked(sentence: str) -> Meaning:
        def meaning(_: str) -> MechawayError:
            return Locked(sentence)

        return meaning

    changed = locked(f'the key of project "{project}" does not open: what is stored was changed or is another project\'s')
    return {
        "InvalidCiphertextException": changed,
        "IncorrectKeyException": changed,
        "DisabledException": locked(f"the KMS key {key} is disabled; enable it, and secrets open again"),
        "KMSInvalidStateException": locked(f"the KMS key {key} cannot be used in its state; if it waits for its deletion, cancel that"),
        "NotFoundException": locked(f"there is no KMS key {key}; if it was deleted, secrets locked with it must be set again"),
        **dict.fromkeys(DENIED, locked(f"the function's role may not use the KMS key {key}; allow it {action}")),
    }


def _read(project: str, wrapped: bytes) -> tuple[str, bytes]:
    """The ARN of the key and what it sealed."""
    try:
        held: Any = orjson.loads(wrapped)
        arn, sealed = str(held["kms_key"]), base64.b64decode(held["sealed"], validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise Locked(f'the key of project "{project}" cannot be read: what is stored was changed') from None
    if not sealed:
        raise Locked(f'the key of project "{project}" cannot be read: what is stored was changed')
    return arn, sealed
