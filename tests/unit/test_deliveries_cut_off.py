"""Claims to deliveries whose run failed or was cut off: the next attempt has the keys of the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mechaway_core.access.deliveries import Claim, Deliveries, Delivery, Kept
from mechaway_core.errors import Busy
from mechaway_core.folders import FolderStore
from mechaway_core.local.clock import LocalClock
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles


class Time(LocalClock):
    """A clock that a test moves on."""

    seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    files = ProjectFiles(Settings(data_dir=tmp_path, sync="normal"))
    yield FolderStore(files)
    files.close()


@pytest.fixture
def deliveries(store: FolderStore, time: Time) -> Deliveries:
    return Deliveries(store, time)


def claim(deliveries: Deliveries, run_id: str, key: str = "k", said: str = "a body") -> Claim:
    return deliveries.claim("default", "w", "hook", Delivery(key, run_id, seconds=10, window=1000, print=said))


def test_a_claim_that_was_cut_off_keeps_its_keys_however_many_others_come_before_it_is_taken_over(
    deliveries: Deliveries, time: Time
) -> None:
    claim(deliveries, "first")
    time.seconds += 16
    for number in range(20):
        claim(deliveries, f"other {number}", key=f"other {number}").settle(Kept(200, {}, None, b""))
    assert claim(deliveries, "second").keys == "first"


def test_the_attempt_after_one_that_failed_has_its_keys_since_its_nodes_may_have_acted(deliveries: Deliveries) -> None:
    claim(deliveries, "first").settle(Kept(503, {}, None, b""))
    second = claim(deliveries, "second")
    assert second.keys == "first"
    with pytest.raises(Busy):
        claim(deliveries, "third")
    second.release()
    assert claim(deliveries, "fourth").keys == "first"


def test_another_request_with_the_same_key_has_keys_of_its_own(deliveries: Deliveries) -> None:
    claim(deliveries, "first").release()
    assert claim(deliveries, "second", said="another body").keys == "second"


def test_what_is_kept_of_claims_goes_after_the_window(deliveries: Deliveries, store: FolderStore, time: Time) -> None:
    for number in range(10):
        claim(deliveries, f"old {number}", key=f"old {number}").release()
    time.seconds += 2000
    for number in range(10):
        claim(deliveries, f"new {number}", key=f"new {number}").settle(Kept(200, {}, None, b""))
    assert len(store.keys("default", "deliveries/")) == 10
