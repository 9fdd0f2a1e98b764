"""Signatures over the raw body, against examples that the services publish."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaway_core.access.signatures import PRESETS
from mechaway_core.access.webhook import Headers, problems, read_lock
from mechaway_core.errors import Refused

# https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload validation"
GITHUB = {
    "auth": {"kind": "hmac", "preset": "github", "secret": "$secret.S"},
    "secret": "It's a Secret to Everybody",
    "body": b"Hello, World!",
    "headers": [(b"x-hub-signature-256", b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
    "now": 0.0,
}
# https://docs.slack.dev/authentication/verifying-requests-from-slack, the worked example
SLACK = {
    "auth": {"kind": "hmac", "preset": "slack", "secret": "$secret.S"},
    "secret": "8f742231b10e8888abcd99yyyzzz85a5",
    "body": (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&"
        b"user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    ),
    "headers": [
        (b"x-slack-request-timestamp", b"1531420618"),
        (b"x-slack-signature", b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
    ],
    "now": 1531420618.0,
}
# Stripe's own .NET library: src/StripeTests/Resources/event_test_signature.json and Services/Events/EventUtilityTest.cs
STRIPE = {
    "auth": {"kind": "hmac", "preset": "stripe", "secret": "$secret.S"},
    "secret": "webhook_secret",
    "body": b"""{
  "id": "evt_123",
  "object": "event",
  "account": "acct_123",
  "api_version": "2017-05-25",
  "created": 1533204620,
  "data": {
    "object": {
      "id": "cus_123",
      "object": "customer",
      "created": 123456789,
      "email": "test@stripe.com",
      "livemode": false,
      "metadata": {}
    }
  },
  "livemode": false,
  "pending_webhooks": 1,
  "request": {
    "id": "req_123",
    "idempotency_key": "idempotency-key-123"
  },
  "type": "customer.created"
}
""",
    "headers": [
        (
            b"stripe-signature",
            b"t=1533204620,v1=2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7,"
            b"v0=63f3a72374a733066c4be69ed7f8e5ac85c22c9f0a6a612ab9a025a9e4ee7eef",
        )
    ],
    "now": 1533204620.0,
}
# Shopify documents the scheme (https://shopify.dev/docs/apps/build/webhooks/subscribe/https) but no secret with its digest; this one
# is from the tests of SQLPage's example of a Shopify webhook.
SHOPIFY = {
    "auth": {"kind": "hmac", "preset": "shopify", "secret": "$secret.S"},
    "secret": "test-webhook-secret",
    "body": b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}',
    "headers": [(b"x-shopify-hmac-sha256", b"QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw=")],
    "now": 0.0,
}
PUBLISHED = {"github": GITHUB, "slack": SLACK, "stripe": STRIPE, "shopify": SHOPIFY}


def check(auth: Any, values: dict[str, str], headers: Headers, body: bytes, now: float = 0.0) -> None:
    lock = read_lock(auth)
    assert lock is not None
    lock.check_headers(values, headers)
    lock.check_body(values, headers, (body,), now)


def refusal(auth: Any, values: dict[str, str], headers: Headers, body: bytes, now: float = 0.0) -> str:
    with pytest.raises(Refused) as refused:
        check(auth, values, headers, body, now)
    return refused.value.reason


def example(name: str, **changed: Any) -> dict[str, Any]:
    one: dict[str, Any] = PUBLISHED[name]
    given = {"auth": one["auth"], "values": {"S": one["secret"]}, "headers": one["headers"], "body": one["body"], "now": one["now"]}
    return given | changed


def test_every_preset_has_a_published_example() -> None:
    assert set(PUBLISHED) == set(PRESETS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_example_fits(name: str) -> None:
    check(**example(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_header_names_may_be_written_in_any_case(name: str) -> None:
    check(**example(name, headers=[(key.title(), value) for key, value in PUBLISHED[name]["headers"]]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_body_or_secret_does_not_fit(name: str) -> None:
    body = PUBLISHED[name]["body"]
    assert isinstance(body, bytes)
    assert refusal(**example(name, body=body + b" ")) == "webhook_wrong"
    assert refusal(**example(name, body=b"")) == "webhook_wrong"
    assert refusal(**example(name, values={"S": "another"})) == "webhook_wrong"


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_the_signature_or_with_two_nobody_comes_in(name: str) -> None:
    headers = example(name)["headers"]
    assert refusal(**example(name, headers=[])) == "webhook_missing"
    assert refusal(**example(name, headers=[*headers, headers[-1]])) == "webhook_twice"


@pytest.mark.parametrize("name", ["slack", "stripe"])
def test_a_timestamp_that_is_too_old_or_too_new_is_refused(name: str) -> None:
    now = example(name)["now"]
    for fine in (now - 300, now + 300):
        check(**example(name, now=fine))
    for late in (now - 301, now + 301):
        assert refusal(**example(name, now=late)) == "webhook_stale"
    wide = example(name)["auth"] | {"tolerance": 1000}
    check(**example(name, auth=wide, now=now + 999))


def test_another_timestamp_than_the_signed_one_does_not_fit() -> None:
    headers = [(b"x-slack-request-timestamp", b"1531420619"), example("slack")["headers"][1]]
    assert refusal(**example("slack", headers=headers)) == "webhook_wrong"
    for broken in (b"", b"now", b"-1531420618", b"1531420618.5", b"9" * 13, b"+1531420618", "١٥٣١٤٢٠٦١٨".encode()):
        headers[0] = (b"x-slack-request-timestamp", broken)
        assert refusal(**example("slack", headers=headers)) == "webhook_malformed"


def test_of_several_signatures_of_stripe_one_must_fit() -> None:
    [(name, value)] = example("stripe")["headers"]
    right = value.split(b",")[1]
    wrong = b"v1=" + b"0" * 64
    for several in (b"t=1533204620," + wrong + b"," + right, b"t=1533204620, " + right + b", " + wrong, b"t=1533204620,v1=zz," + right):
        check(**example("stripe", headers=[(name, several)]))
    assert refusal(**example("stripe", headers=[(name, b"t=1533204620," + wrong)])) == "webhook_wrong"
    for broken in (
        right,
        b"t=1533204620",
        b"t=1533204620,t=1533204620," + right,
        b"t=1533204620,v0=" + right[3:],
        b"t=x," + right,
        b"",
        b"t=1533204620" + b"," + b",".join([wrong] * 17),
    ):
        assert refusal(**example("stripe", headers=[(name, broken)])) == "webhook_malformed", broken


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"sha256=",
        b"sha256=zz",
        b"757107ea",
        b"sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        b"sha256=\xff\xfe",
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    assert refusal(**example("github", headers=[(b"x-hub-signature-256", signature)])) == "webhook_malformed"


def test_while_a_secret_is_replaced_both_are_good() -> None:
    auth = example("github")["auth"] | {"secret": ["$secret.NEW", "$secret.OLD"]}
    old = example("github")["values"]["S"]
    check(**example("github", auth=auth, values={"NEW": "n", "OLD": old}))
    check(**example("github", auth=auth, values={"NEW": old, "OLD": "n"}))
    assert refusal(**example("github", auth=auth, values={"NEW": "n", "OLD": "o"})) == "webhook_wrong"


@given(
    body=st.binary(max_size=300),
    secret=st.text(min_size=1, max_size=50),
    algorithm=st.sampled_from(["sha1", "sha256", "sha512"]),
    encoding=st.sampled_from(["hex", "base64", "base64url"]),
    prefix=st.sampled_from(["", "sig=", "v1,"]),
    stamped=st.booleans(),
    cuts=st.integers(min_value=0, max_value=300),
)
def test_whatever_is_signed_as_the_free_form_says_fits(
    body: bytes, secret: str, algorithm: str, encoding: str, prefix: str, stamped: bool, cuts: int
) -> None:
    auth: dict[str, Any] = {"kind": "hmac", "secret": "$secret.S", "header": "X-Sig", "algorithm": algorithm, "encoding": encoding}
    auth |= {"prefix": prefix} | ({"timestamp_header": "X-Time", "signed": "{timestamp}|{body}|end"} if stamped else {})
    assert list(problems(auth)) == []
    message = b"1000|" + body + b"|end" if stamped else body
    digest = hmac.digest(secret.encode(), message, getattr(hashlib, algorithm))
    written = {
        "hex": digest.hex().encode(),
        "base64": base64.b64encode(digest),
        "base64url": base64.urlsafe_b64encode(digest).rstrip(b"="),
    }[encoding]
    headers = [(b"x-sig", prefix.encode() + written), (b"x-time", b"1000")]
    lock = read_lock(auth)
    assert lock is not None
    lock.check_body({"S": secret}, headers, (body,), 1000.0)
    lock.check_body({"S": secret}, headers, (body[:cuts], body[cuts:]), 1000.0)
    lock.check_body({"S": secret}, headers, iter([body[:cuts], body[cuts:]]), 1000.0)
    with pytest.raises(Refused):
        lock.check_body({"S": secret + "x"}, headers, [body], 1000.0)


@given(headers=st.lists(st.tuples(st.sampled_from([b"stripe-signature", b"x-slack-signature", b"x"]), st.binary(max_size=80)), max_size=4))
def test_no_header_makes_it_stumble(headers: list[tuple[bytes, bytes]]) -> None:
    for name in PRESETS:
        with pytest.raises(Refused):
            check({"kind": "hmac", "preset": name, "secret": "$secret.S"}, {"S": "s"}, headers, b"body")


@pytest.mark.parametrize(
    ("auth", "way", "says"),
    [
        ({"kind": "hmac", "preset": "github"}, "secret", "missing"),
        ({"kind": "hmac", "preset": "githob", "secret": "$secret.S"}, "preset", 'did you mean "github"'),
        ({"kind": "hmac", "preset": "github", "secret": "hunter2"}, "secret", r"\$secret"),
        ({"kind": "hmac", "preset": "github", "secret": []}, "secret", "1 to 10"),
        ({"kind": "hmac", "preset": "github", "secret": "$secret.S", "header": "x"}, "header", "set by the preset"),
        ({"kind": "hmac", "preset": "github", "secret": "$secret.S", "tolerance": 5}, "tolerance", "set by the preset"),
        ({"kind": "hmac", "preset": "slack", "secret": "$secret.S", "tolerance": 0}, "tolerance", "more than 0"),
        ({"kind": "hmac", "secret": "$secret.S"}, "header", "preset"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "a b"}, "header", "name of a header"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "algorithm": "md5"}, "algorithm", "sha256"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "encoding": "raw"}, "encoding", "hex"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "signed": "{timestamp}"}, "signed", "body"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "signed": "{body}{body}"}, "signed", "once"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "signed": "{timestamp}.{body}"}, "signed", "timestamp_header"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "timestamp_header": "t", "signed": "{body}"}, "signed", "must be signed"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "tolerance": 5}, "tolerance", "timestamp_header"),
        ({"kind": "hmac", "secret": "$secret.S", "header": "x", "token": "$secret.S"}, "", "not a known field"),
        ({"kind": "bearer"}, "token", "missing"),
        ({"kind": "bearer", "token": "abc"}, "token", "stands in the workflow"),
        ({"kind": "bearer", "token": "$secret.A", "value": "$secret.A"}, "", '"value" is not a known field'),
        ({"kind": "basic", "username": "a:b", "password": "$secret.A"}, "username", ":"),
        ({"kind": "header", "name": "", "value": "$secret.A"}, "name", "name of a header"),
        ({"kind": "digest"}, "kind", "bearer"),
        ({}, "kind", "one of"),
        ("everybody", "", "object"),
    ],
)
def test_a_param_that_means_nothing_is_explained(auth: Any, way: str, says: str) -> None:
    found = list(problems(auth))
    assert way in [place for place, _ in found]
    assert any(re.search(says, sentence) for place, sentence in found if place == way), found
