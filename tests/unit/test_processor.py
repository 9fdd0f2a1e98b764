"""Where the threads of a server process run."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mechaway_core import cpus
from mechaway_core.local.processor import EVERY, Processor, Use, busy, roomier, uses, works_alone
from tests.journeys.server import until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(cpus.allowed()) < 2, reason="there is no choice of processors here, so the server makes none"
)


@contextmanager
def thread() -> Iterator[int]:
    """A thread that waits, by its number in the system."""
    over = threading.Event()
    waiting = threading.Thread(target=over.wait, daemon=True)
    waiting.start()
    try:
        assert waiting.native_id is not None
        yield waiting.native_id
    finally:
        over.set()
        waiting.join()


@pytest.fixture
def processor() -> Iterator[Processor]:
    """One that keeps the threads of this process together, which then go where they like again."""
    processor = Processor(1)
    processor.start()
    try:
        yield processor
    finally:
        processor.stop()
        for number in uses():
            cpus.bind(number, cpus.allowed())


def places(number: int) -> set[int]:
    return os.sched_getaffinity(number) if sys.platform == "linux" else set()


@pytest.mark.parametrize(
    ("seconds", "waits", "alone"),
    [
        (0.2, 0, True),  # a query of SQLite
        (0.2, 100, True),  # Python that computes: it gives way every 5 ms
        (0.2, 2000, False),  # requests
        (0.01, 0, False),  # hardly anything
        (0.0, 0, False),
    ],
)
def test_who_works_for_long_without_waiting_works_alone(seconds: float, waits: int, alone: bool) -> None:
    assert works_alone(Use(seconds, waits), EVERY) is alone


@pytest.mark.parametrize(
    ("worked", "own", "target"),
    [
        ({0: 5.0, 1: 0.5}, 4.5, None),  # we ourselves
        ({0: 5.0, 1: 0.5}, 2.5, 1),
        ({0: 5.0, 1: 5.0}, 2.5, None),  # nowhere is it better
        ({0: 5.0, 1: 2.0, 2: 0.1, 3: 0.2}, 2.5, 2),
        ({0: 5.0}, 1.0, None),
        ({1: 5.0, 2: 0.1}, 1.0, None),  # ours was taken away
        ({0: 4.0, 1: 0.1}, 4.4, None),  # clocks that do not quite agree
    ],
)
def test_a_server_moves_where_others_leave_more_time(worked: dict[int, float], own: float, target: int | None) -> None:
    assert roomier(worked, 0, own, 5.0) == target


def test_all_threads_keep_to_one_processor_and_so_do_later_ones(processor: Processor) -> None:
    assert processor.home in cpus.allowed()
    assert {frozenset(places(number)) for number in uses()} == {frozenset({processor.home})}
    with thread() as number:
        assert places(number) == {processor.home}


def test_processes_that_begin_together_take_processors_of_their_own() -> None:
    assert len({Processor(number).home for number in range(len(cpus.strong()))}) == len(cpus.strong())


@pytest.mark.parametrize("file", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
def test_small_processors_are_left_to_others(tmp_path: Path, file: str) -> None:
    small, *large = cpus.allowed()
    for number, strength in [(small, 4_300_000), *((number, 5_700_000 + number) for number in large)]:
        path = tmp_path / f"cpu{number}" / file
        path.parent.mkdir(parents=True)
        path.write_text(f"{strength}\n")
    assert cpus.strong(tmp_path) == tuple(large)


def test_where_the_system_does_not_tell_all_processors_are_the_same(tmp_path: Path) -> None:
    assert cpus.strong(tmp_path) == cpus.allowed()
    (tmp_path / f"cpu{cpus.allowed()[0]}").mkdir()
    (tmp_path / f"cpu{cpus.allowed()[0]}" / "cpu_capacity").write_text("1024")  # of one only
    assert cpus.strong(tmp_path) == cpus.allowed()


def test_a_thread_that_works_alone_may_go_anywhere_until_it_waits_again(processor: Processor) -> None:
    assert processor.home is not None
    with thread() as hard, thread() as easy:
        processor.sort_out({hard: Use(1.0, 10), easy: Use(1.0, 10)}, EVERY)
        processor.sort_out({hard: Use(1.2, 10), easy: Use(1.2, 3000)}, EVERY)
        assert places(hard) == set(cpus.allowed())
        assert places(easy) == {processor.home}
        processor.sort_out({hard: Use(1.4, 11), easy: Use(1.2, 3000)}, EVERY)
        assert places(hard) == set(cpus.allowed())
        processor.sort_out({hard: Use(1.41, 500), easy: Use(1.2, 3000)}, EVERY)
        assert places(hard) == {processor.home}


def test_a_thread_started_by_one_that_was_let_go_comes_to_the_others(processor: Processor) -> None:
    with thread() as stray:
        cpus.bind(stray, cpus.allowed())
        processor.sort_out({stray: Use(0.0, 1)}, EVERY)
        assert places(stray) == {processor.home}


def test_threads_that_end_meanwhile_are_no_trouble(processor: Processor) -> None:
    with thread() as gone:
        processor.sort_out({gone: Use(1.0, 1)}, EVERY)
        processor.sort_out({gone: Use(2.0, 1)}, EVERY)
    processor.sort_out({gone: Use(2.0, 100)}, EVERY)
    processor.sort_out({}, EVERY)


@pytest.mark.parametrize("own", [3.2, 1.0])
def test_all_move_when_others_need_the_processor(processor: Processor, own: float) -> None:
    """Also when they leave so little that the server hardly gets any."""
    home = processor.home
    assert home is not None
    with thread() as number:
        processor.look_around(dict.fromkeys(cpus.allowed(), 100.0), 50.0)
        processor.look_around({one: 105.0 if one == home else 100.1 for one in cpus.allowed()}, 50.0 + own)
        assert processor.home != home
        assert places(number) == {processor.home}


def test_an_idle_server_stays_where_it_is(processor: Processor) -> None:
    home = processor.home
    processor.look_around(dict.fromkeys(cpus.allowed(), 100.0), 50.0)
    processor.look_around({one: 105.0 if one == home else 100.0 for one in cpus.allowed()}, 50.1)
    assert processor.home == home


def test_what_the_system_tells_is_understood() -> None:
    assert set(cpus.allowed()) <= busy().keys()
    with thread() as number:
        before = uses()
        assert before[number].waits >= 0
        assert sum(use.seconds for use in before.values()) > 0
        mine = threading.get_native_id()
        until(lambda: uses()[mine].seconds > before[mine].seconds, "what this thread uses to be counted")
