"""Are statements stopped at their deadline, and only those?"""

from __future__ import annotations

import time

import apsw
import pytest

from mechaway_core.sqlite.watch import STALE, Watch

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def test_a_statement_is_stopped_at_its_deadline() -> None:
    watch, connection = Watch(), apsw.Connection(":memory:")
    for _ in range(3):
        alarm = watch.set(connection, time.monotonic() + 0.02)
        with pytest.raises(apsw.InterruptError):
            connection.execute(ENDLESS)
        assert watch.clear(alarm) is True
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()


def test_an_earlier_deadline_does_not_wait_for_a_later_one() -> None:
    watch, one, two = Watch(), apsw.Connection(":memory:"), apsw.Connection(":memory:")
    late = watch.set(one, time.monotonic() + 3600)
    early = watch.set(two, time.monotonic() + 0.01)
    with pytest.raises(apsw.InterruptError):
        two.execute(ENDLESS)
    assert watch.clear(early) is True
    assert watch.clear(late) is False
    one.close()
    two.close()


def test_cleared_alarms_are_forgotten_and_ring_no_more() -> None:
    watch, connection = Watch(), apsw.Connection(":memory:")
    kept = watch.set(connection, time.monotonic() + 3600)
    for _ in range(STALE * 5):
        assert watch.clear(watch.set(connection, time.monotonic() + 3600)) is False
    assert len(watch._alarms) <= STALE * 2
    assert kept in watch._alarms
    assert watch.clear(kept) is False
    assert watch.clear(kept) is False
    connection.close()
