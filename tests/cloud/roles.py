"""What a role may do, asked with calls: somebody is given exactly its policies, for only Lambda can take the role itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from tests.cloud.emulator import Emulator
from tests.cloud.stack import Stack

DENIED = ("AccessDenied", "AccessDeniedException")
Call = Callable[["Likeness"], Any]


class Likeness:
    """Somebody with the policies of a role. `may` makes a call, and says whether it was allowed."""

    def __init__(self, emulator: Emulator, key: str, secret: str) -> None:
        self._emulator = emulator
        self._key = key
        self._secret = secret
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A client of a service with these credentials."""
        if service not in self._clients:
            self._clients[service] = self._emulator.client_for(service, self._key, self._secret)
        return self._clients[service]

    def may(self, call: Call) -> bool:
        """Whether the call is allowed; what else it may fail of says nothing about that."""
        try:
            call(self)
        except ClientError as error:
            return error.response["Error"]["Code"] not in DENIED
        return True

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()


@contextmanager
def likeness(stack: Stack, role: str) -> Iterator[Likeness]:
    """Somebody who may do what a role of a stack may."""
    iam, name = stack.emulator.client("iam"), stack.physical(role)
    user = f"like-{name}"[:64]
    iam.create_user(UserName=user)
    attached = [one["PolicyArn"] for one in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]]
    inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    key = iam.create_access_key(UserName=user)["AccessKey"]
    made = Likeness(stack.emulator, key["AccessKeyId"], key["SecretAccessKey"])
    try:
        for arn in attached:
            iam.attach_user_policy(UserName=user, PolicyArn=arn)
        for policy in inline:
            document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            iam.put_user_policy(UserName=user, PolicyName=policy, PolicyDocument=json.dumps(document))
        yield made
    finally:
        made.close()
        for arn in attached:
            iam.detach_user_policy(UserName=user, PolicyArn=arn)
        for policy in inline:
            iam.delete_user_policy(UserName=user, PolicyName=policy)
        iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=user)
