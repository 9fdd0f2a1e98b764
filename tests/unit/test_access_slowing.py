"""The pause after failed authentications."""

from __future__ import annotations

import pytest

from mechaway_core.access.slowing import FORGET, FREE, MOST_SOURCES, SLEEPERS, Slowing, group
from mechaway_core.errors import TooMany


class Time:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def slowing(time: Time) -> Slowing:
    return Slowing(5.0, time)


def fail(slowing: Slowing, source: str = "a") -> float:
    """A failure whose pause is over at once."""
    pause = slowing.failed(source)
    if pause:
        slowing.woke(source)
    return pause


def test_the_first_failures_are_free_and_pauses_grow_up_to_the_limit(slowing: Slowing) -> None:
    assert [fail(slowing) for _ in range(FREE)] == [0.0] * FREE
    assert [fail(slowing) for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_failures_are_forgotten_with_time(slowing: Slowing, time: Time) -> None:
    for _ in range(FREE + 3):
        fail(slowing)
    time.now += 3 * FORGET
    assert fail(slowing) == 0.25
    time.now += 1000 * FORGET
    assert [fail(slowing) for _ in range(FREE + 1)] == [0.0] * FREE + [0.25]


def test_sources_do_not_slow_each_other(slowing: Slowing) -> None:
    for _ in range(20):
        fail(slowing, "a")
    assert fail(slowing, "b") == 0.0


def test_while_many_wait_their_source_is_blocked_before_anything_is_looked_at(slowing: Slowing) -> None:
    for _ in range(FREE):
        fail(slowing)
    for _ in range(SLEEPERS):
        slowing.admit("a")
        assert slowing.failed("a") > 0
    with pytest.raises(TooMany) as blocked:
        slowing.admit("a")
    assert blocked.value.retry_after == 5
    with pytest.raises(TooMany):
        slowing.failed("a")
    slowing.admit("b")
    slowing.woke("a")
    slowing.admit("a")


def test_without_a_pause_nothing_is_slowed_or_blocked(time: Time) -> None:
    slowing = Slowing(0.0, time)
    assert [slowing.failed("a") for _ in range(100)] == [0.0] * 100
    slowing.admit("a")


def test_memory_is_bounded_and_those_who_wait_are_not_forgotten(slowing: Slowing) -> None:
    for _ in range(FREE):
        fail(slowing, "first")
    assert slowing.failed("first") > 0
    for number in range(MOST_SOURCES + 100):
        fail(slowing, f"source {number}")
    assert len(slowing._sources) <= MOST_SOURCES
    assert "first" in slowing._sources


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff"), ("fe80::1%eth0", "fe80::2"), ("::ffff:192.0.2.1", "192.0.2.1")],
)
def test_an_ipv6_network_is_one_source(one: str, other: str) -> None:
    assert group(one) == group(other)


def test_other_networks_are_other_sources() -> None:
    assert group("2001:db8:0:1::1") != group("2001:db8:0:2::1")
    assert group("192.0.2.1") != group("192.0.2.2")
    assert group(":::") == ":::"
