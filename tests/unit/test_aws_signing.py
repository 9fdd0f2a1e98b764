"""Do requests carry the signatures that AWS publishes as examples?

Source: "Examples: Signature Calculations" in the API reference of Amazon S3, authorization header, one chunk.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from mechaway_core.aws.s3 import place_of
from mechaway_core.aws.signing import NO_BODY, Keys, quoted_path, quoted_query, sign
from mechaway_core.errors import Invalid

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
HOST = {"host": "examplebucket.s3.amazonaws.com"}
STORED = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        ("GET", "/test.txt", {}, {"range": "bytes=0-9"}, NO_BODY, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("PUT", "/test$file.text", {}, STORED, WELCOME, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        ("GET", "/", {"lifecycle": ""}, {}, NO_BODY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("GET", "/", {"prefix": "J", "max-keys": "2"}, {}, NO_BODY, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_published_examples_are_signed_as_published(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], body: str, signature: str
) -> None:
    target = quoted_path(path) + ("?" + quoted_query(query) if query else "")
    signed = sign(method, target, HOST | headers, body, keys=KEYS, region="us-east-1", now=NOW)
    names = ";".join(sorted([*HOST, *headers, "x-amz-content-sha256", "x-amz-date"]))
    scope = "20130524/us-east-1/s3/aws4_request"
    assert signed["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{scope},SignedHeaders={names},Signature={signature}"
    )


@pytest.mark.parametrize("key", ["plain", "a b", "é/\U0001f600", "a+b&c=d?e#f%20", "~-._/", "\x01\uffff", "a//b/../c"])
def test_it_signs_as_botocore_does(key: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    query = {"prefix": key, "list-type": "2"}
    target = f"{quoted_path('/' + key)}?{quoted_query(query)}"
    theirs = AWSRequest("GET", f"https://bucket.s3.amazonaws.com{target}", headers={"if-none-match": '"e"'})
    S3SigV4Auth(Credentials(KEYS.access_key, KEYS.secret_key, "a token"), "s3", "eu-west-1").add_auth(theirs)
    moment = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    headers = {"host": "bucket.s3.amazonaws.com", "if-none-match": '"e"'}
    keys = Keys(KEYS.access_key, KEYS.secret_key, "a token")
    mine = sign("GET", target, headers, theirs.headers["X-Amz-Content-SHA256"], keys=keys, region="eu-west-1", now=moment)
    assert mine["authorization"].rpartition("=")[2] == theirs.headers["Authorization"].rpartition("=")[2]


def test_credentials_are_not_in_what_is_printed() -> None:
    assert "wJalr" not in repr(KEYS)


def test_a_bucket_has_a_name_of_its_own_unless_that_cannot_be() -> None:
    assert place_of("b", "eu-west-1").host == "b.s3.eu-west-1.amazonaws.com"
    assert place_of("b", "cn-north-1").host == "b.s3.cn-north-1.amazonaws.com.cn"
    dotted = place_of("a.b", "eu-west-1")
    assert (dotted.host, dotted.path) == ("s3.eu-west-1.amazonaws.com", "/a.b")
    near = place_of("b", "us-east-1", "http://127.0.0.1:4566/")
    assert (near.host, near.path, near.secure) == ("127.0.0.1:4566", "/b", False)
    with pytest.raises(Invalid, match="MECHAWAY_BUCKET"):
        place_of("", "us-east-1")
