"""Clients of AWS: where they call, with what credentials, and boto3 for all that no run waits for.

A run reads and writes its bucket through `s3.py`, which is a small part of boto3 for a fifth of its import (measured: `http.client` 26 ms
of CPU, boto3 155 and its first client 50 more). boto3 and botocore are imported when somebody first asks for one of its clients, or for
credentials that the environment does not hold.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mechaway_core.aws.signing import Keys
from mechaway_core.errors import Unavailable
from mechaway_core.settings import AwsVariables, Settings

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

    from mechaway_core.aws.s3 import S3


class Clients:
    """Clients of the services, each made when first asked for. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._making = threading.Lock()
        self._made: dict[str, Any] = {}
        self._session: Any = None

    @cached_property
    def s3(self) -> S3:
        """The bucket of these settings."""
        from mechaway_core.aws.s3 import S3, place_of

        variables = AwsVariables.load()
        region = variables.region or self._region()
        place = place_of(self._settings.bucket, region, variables.s3_endpoint)
        return S3(place, self.keys, timeout=self._settings.s3_timeout, ca_bundle=variables.ca_bundle)

    @property
    def kms(self) -> KMSClient:
        """KMS."""
        made: KMSClient = self.boto3("kms")
        return made

    @property
    def events(self) -> EventBridgeClient:
        """EventBridge: rules."""
        made: EventBridgeClient = self.boto3("events")
        return made

    @property
    def scheduler(self) -> EventBridgeSchedulerClient:
        """EventBridge Scheduler."""
        made: EventBridgeSchedulerClient = self.boto3("scheduler")
        return made

    @property
    def functions(self) -> LambdaClient:
        """Lambda."""
        made: LambdaClient = self.boto3("lambda")
        return made

    @property
    def secrets(self) -> SecretsManagerClient:
        """Secrets Manager."""
        made: SecretsManagerClient = self.boto3("secretsmanager")
        return made

    def boto3(self, service: str) -> Any:
        """boto3's client of a service. Calls are tried three times and give up a server that says nothing for 10 s."""
        with self._making:
            made = self._made.get(service)
            if made is None:
                from botocore.config import Config

                config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
                made = self._made[service] = self._boto3_session().client(
                    service, region_name=AwsVariables.load().region or None, config=config
                )
            return made

    def keys(self) -> Keys:
        """The credentials of this moment: those of the environment, else the ones that boto3 finds, and renews. Raises `Unavailable`."""
        variables = AwsVariables.load()
        if variables.access_key and variables.secret_key:
            return Keys(variables.access_key, variables.secret_key, variables.session_token)
        with self._making:
            found = self._boto3_session().get_credentials()
            if found is None:
                raise Unavailable("there are no credentials for AWS: give this process a role, or set AWS_ACCESS_KEY_ID and its fellows")
            frozen = found.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def _boto3_session(self) -> Any:
        if self._session is None:
            import boto3

            # boto3 knows AWS_DEFAULT_REGION only; Lambda sets both, people AWS_REGION
            self._session = boto3.session.Session(region_name=AwsVariables.load().region or None)
        return self._session

    def _region(self) -> str:
        with self._making:
            region: str | None = self._boto3_session().region_name
        if not region:
            raise Unavailable("no Region of AWS is said: set AWS_REGION")
        return region


def clients(settings: Settings) -> Clients:
    """The clients for these settings; nothing is imported or called yet."""
    return Clients(settings)
