"""Settings of an installation in AWS: those of the environment, whole or refused, and the API token from Secrets Manager.

The token is fetched when the API first needs it, so a webhook never waits for it, and kept for some minutes. A token that does not match
makes us look again, so that a new one works at once after a rotation, but not at every attempt of a guesser.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from mechaway_core.access import AdminToken
from mechaway_core.aws.calls import Meaning, calling
from mechaway_core.errors import Invalid, MechawayError, Unavailable
from mechaway_core.ports import Clock
from mechaway_core.settings import Settings, variable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

log = logging.getLogger("mechaway.access")

_KEEP = 300.0  # seconds until a token is fetched again
_LOOK_AGAIN = 10.0  # seconds until one that does not match makes us fetch it again


def load(environ: Mapping[str, str] | None = None, *, serves: bool = True) -> Settings:
    """The settings of the environment. Raises `Invalid` naming all that an installation in AWS cannot do without.

    `serves`: whether the API is served, which then needs a token.
    """
    settings = Settings.load(environ)
    needed = ["kms_key", "runner_function", *(["bucket"] if settings.storage == "s3" else [])]
    missing = [variable(name) for name in needed if not getattr(settings, name)]
    if serves and not (settings.api_token or settings.api_token_secret):
        missing.append(f"{variable('api_token_secret')} or {variable('api_token')}")
    if settings.schedules == "scheduler" and not settings.scheduler_role:
        missing.append(variable("scheduler_role"))
    if missing:
        raise Invalid(f"settings are missing: {', '.join(missing)}; the template of the deployment sets them")
    return settings


def admin_token(settings: Settings, client: Callable[[], SecretsManagerClient], clock: Clock) -> AdminToken | None:
    """The token of the secret that the settings name; None when it is in the settings themselves."""
    if settings.api_token or not settings.api_token_secret:
        return None
    return SecretToken(client, settings.api_token_secret, clock)


class SecretToken:
    """An `AdminToken` in Secrets Manager: the text of a secret, or the `token` of its JSON object."""

    def __init__(self, client: Callable[[], SecretsManagerClient], arn: str, clock: Clock) -> None:
        self._client = client
        self._arn = arn
        self._clock = clock
        self._lock = threading.Lock()
        self._token = b""
        self._fetched = float("-inf")

    @property
    def is_set(self) -> bool:
        """See `AdminToken.is_set`."""
        return True

    def matches(self, given: bytes) -> bool:
        """See `AdminToken.matches`."""
        return hmac.compare_digest(given, self._current(_KEEP)) or hmac.compare_digest(given, self._current(_LOOK_AGAIN))

    def _current(self, most: float) -> bytes:
        """The token, fetched at most so many seconds ago; when it cannot be had now, the one that was."""
        with self._lock:
            if self._clock.monotonic() - self._fetched >= most:
                try:
                    self._token = self._fetch()
                except MechawayError as error:
                    if not self._token:
                        raise
                    log.error("the API token is the one of %d s ago: %s", self._clock.monotonic() - self._fetched, error)
                    return self._token
                self._fetched = self._clock.monotonic()
            return self._token

    def _fetch(self) -> bytes:
        with calling("read the API token from Secrets Manager", _MEANINGS):
            text = self._client().get_secret_value(SecretId=self._arn).get("SecretString", "")
        token = _token_of(text)
        if not token:
            raise Unavailable("the secret of the API token holds none: it must be a text, or a JSON object with a text in token")
        return token.encode()


def _token_of(text: str) -> str:
    try:
        held = orjson.loads(text)
    except ValueError:
        return text.strip()
    if isinstance(held, dict):
        token = held.get("token")
        return token if isinstance(token, str) else ""
    return text.strip()


def _gone(_: str) -> MechawayError:
    return Unavailable("there is no secret with the API token; deploy again, or set MECHAWAY_API_TOKEN_SECRET")


_MEANINGS: dict[str, Meaning] = {"ResourceNotFoundException": _gone}
