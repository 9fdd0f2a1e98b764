"""Secrets are taken out of texts and values, in whatever shape software writes them."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mechaway_core.redact import REMEMBERED, Redactor, Remembered

LABEL = "[secret KEY]"

# Without what the label is made of, so that the label itself never completes a value.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]\0"), min_size=4, max_size=60).filter(
    lambda text: len(text.strip()) >= 4 and text not in LABEL and text.strip() not in LABEL
)
AROUND = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), max_size=20)

WRITERS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda value: quote(value, safe=""),
    "percent-encoded but for slashes": quote,
    "as a form": quote_plus,
    "percent-encoded in small letters": lambda value: re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
    "percent-encoded twice": lambda value: quote(quote(value, safe=""), safe=""),
    "percent-encoded in part": lambda value: quote(value, safe="/:@!$&'()*+,;="),
    "as JSON": lambda value: json.dumps(value)[1:-1],
    "as JSON in UTF-8": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "as JSON in JSON": lambda value: json.dumps(json.dumps(value))[1:-1],
    "as HTML": html.escape,
    "in UTF-8 read as Latin-1": lambda value: value.encode().decode("latin-1"),
    "in hexadecimal": lambda value: value.encode().hex(),
    "in hexadecimal capitals": lambda value: value.encode().hex().upper(),
}


@pytest.mark.parametrize("how", WRITERS)
@given(value=VALUES, before=AROUND, after=AROUND)
def test_a_value_is_found_however_it_is_written(how: str, value: str, before: str, after: str) -> None:
    written = WRITERS[how](value.strip())
    cleaned = Redactor({value: "KEY"}).text(before + written + after)
    assert written not in cleaned
    assert LABEL in cleaned


@given(value=VALUES, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_a_value_is_found_in_base64_wherever_it_stands_in_what_was_encoded(value: str, before: bytes, after: bytes) -> None:
    data = value.strip().encode()
    assume(len(data) >= 6)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + data + after).decode()
        for text in (encoded, encoded.rstrip("="), quote(encoded, safe="")):
            cleaned = Redactor({value: "KEY"}).text(f"Basic {text} .")
            assert LABEL in cleaned
            assert len(cleaned.replace(LABEL, "")) < len(f"Basic {text} .") - len(data)


def test_short_values_are_found_in_base64_that_stands_alone() -> None:
    encoded = base64.b64encode(b"pass!").decode()
    assert Redactor({"pass!": "KEY"}).text(f"token {encoded};") == f"token {LABEL};"


@given(
    value=VALUES,
    tree=st.recursive(st.none() | AROUND | st.integers() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(AROUND, inner)),
)
def test_a_json_value_comes_back_without_the_secret_and_the_given_one_is_left_as_it_was(value: str, tree: Any) -> None:
    item = {"deep": [tree, {value: f"<{value}>"}], value: value}
    before = json.dumps(item)
    cleaned = Redactor({value: "KEY"}).value(item)
    assert json.dumps(item) == before
    assert value not in _texts(cleaned)
    assert cleaned[_in_place(value)] == _in_place(value)


def _in_place(value: str) -> str:
    """What becomes of the value: white space around it stays."""
    return value.replace(value.strip(), LABEL)


def _texts(value: Any) -> str:
    """Every text in the value: digits that a longer number happens to hold are no secret."""
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{_texts(inner)}" for key, inner in value.items())
    return "\n".join(map(_texts, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def test_what_holds_no_secret_is_the_same_object() -> None:
    item = {"a": [1, "text", None], "b": {"c": True}}
    assert Redactor({"hunter22": "KEY"}).value(item) is item


def test_numbers_that_are_a_secret_are_taken_out_too() -> None:
    redactor = Redactor({"12345678": "PIN", "1": "SHORT"})
    assert redactor.value([12345678, 12345678.0, 1, True, "x12345678x"]) == ["[secret PIN]", "[secret PIN]", 1, True, "x[secret PIN]x"]


def test_short_values_are_replaced_only_where_they_are_the_whole_text() -> None:
    redactor = Redactor({"on": "MODE"})
    assert redactor.value({"on": ["on", "one", "on "]}) == {"[secret MODE]": ["[secret MODE]", "one", "on "]}


def test_of_values_that_begin_alike_the_longest_is_replaced() -> None:
    redactor = Redactor({"abcd": "SHORT", "abcdefgh": "LONG"})
    assert redactor.text("abcdefgh abcd") == "[secret LONG] [secret SHORT]"


def test_what_was_derived_from_secrets_has_no_name() -> None:
    redactor = Redactor({"hunter22": "KEY"})
    redactor.add({"bearer-xyz": None})
    assert redactor.text("bearer-xyz of hunter22") == f"[secret] of {LABEL}"


@pytest.mark.parametrize(
    ("value", "telling"),
    [
        ("postgresql://app:p%40ss-word@db.internal:5432/shop", ["p%40ss-word", "p@ss-word"]),
        ("host=db user=app password=p4ssw0rd dbname=shop", ["p4ssw0rd"]),
        (r"host=db password='p4 ss\'w' dbname=shop", ["p4 ss'w"]),
        ("postgresql://db/shop?user=app&password=p4ssw0rd", ["p4ssw0rd"]),
        ("https://hooks.example.com/services/T000/B000/XXXX", ["/services/T000/B000/XXXX"]),
        (
            "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END KEY-----\n",
            ["MIIEvQIBADANBgkqhkiG", "9w0BAQEFAASCBKcwggSj"],
        ),
        ("  token-with-space \n", ["token-with-space"]),
    ],
)
def test_the_telling_parts_of_a_value_count_too(value: str, telling: list[str]) -> None:
    redactor = Redactor({value: "KEY"})
    for part in telling:
        assert redactor.text(f"it said: {part}!") == f"it said: {LABEL}!"


def test_the_beginning_of_a_value_that_was_cut_is_taken_out_of_messages() -> None:
    redactor = Redactor({"sk_live_abcdefghijkl": "KEY", "https://example.com/hook": "URL"})
    assert redactor.message("no luck with sk_live_abcdef…, sorry") == f"no luck with {LABEL}…, sorry"
    assert redactor.message("no luck with sk_live_abcdef... and sk_live_abcd") == f"no luck with {LABEL}... and {LABEL}"
    assert redactor.message("give an address such as https://…") == "give an address such as https://…"


def test_the_largest_value_is_found_and_shown_once() -> None:
    value = "".join(f"{number:05d}{'é/' if number % 7 == 0 else '+'}" for number in range(9_000))
    redactor = Redactor({value: "KEY"})
    for written in (value, json.dumps(value)[1:-1], quote(value)):
        assert redactor.text(f"<{written}>") == f"<{LABEL}>"
    encoded = base64.b64encode(value.encode()).decode()
    assert len(redactor.text(f"<{encoded}>")) < 30


@pytest.mark.parametrize("value", ["\\" * 40 + "b", '"' * 40 + "b", "\\\n" * 20 + "b", "%25" * 15 + "b", "a" * 40 + "b"])
def test_texts_made_to_be_nearly_a_value_do_not_hold_it_up(value: str) -> None:
    redactor = Redactor({value: "KEY"})
    nearly = json.dumps(json.dumps(value[:-1]))[2:-2] * 200 + value[-8:-1]
    began = time.process_time()
    redactor.text(nearly + "b" * 10)
    assert time.process_time() - began < 5.0, "a pattern tries too many ways"


def test_logs_are_kept_clean_of_the_values_used_last() -> None:
    remembered = Remembered(most=2)
    assert remembered.message("first-value") == "first-value"
    remembered.add({"first-value": "A", "other-value": "B"})
    remembered.add({"first-value": "A"})
    remembered.add({"third-value": None})
    assert remembered.message("first-value other-value third-value") == "[secret A] other-value [secret]"


def test_what_is_remembered_has_a_size() -> None:
    remembered = Remembered(most_characters=25)
    for value in ("first-value", "other-value", "third-value"):
        remembered.add({value: None})
    assert remembered.message("first-value other-value third-value") == "first-value [secret] [secret]"


def test_a_log_line_stays_cheap_with_all_that_is_remembered() -> None:
    remembered = Remembered()
    remembered.add({f"value-number-{number}": str(number) for number in range(REMEMBERED)})
    assert remembered.message("value-number-7, value-number-999") == "[secret 7], [secret 999]"


def test_nothing_that_holds_values_shows_them() -> None:
    redactor = Redactor({"hunter22": "KEY"})
    redactor.text("hunter22")
    assert "hunter22" not in repr(redactor)
    assert "hunter22" not in repr(redactor._needles)
