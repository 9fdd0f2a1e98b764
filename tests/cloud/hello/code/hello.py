"""Says what it was asked, after writing it down where its role lets it."""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError

s3 = boto3.client("s3")
FOREIGN = ("tests", "mechaway_core", "ministack", "pydantic")  # of the repository, and of the emulator


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an HTTP event; fail for one that says so."""
    if event.get("fail"):
        raise RuntimeError("told to fail")
    said = {
        "greeting": os.environ["GREETING"],
        "path": event["rawPath"],
        "kept": keep(event["rawPath"].lstrip("/")),
        "finds": [name for name in FOREIGN if importlib.util.find_spec(name)],
    }
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(said)}


def keep(key: str) -> str:
    """Write an object; the word of AWS for how that went."""
    try:
        s3.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=b"x")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "kept"
