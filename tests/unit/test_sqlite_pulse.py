"""Does the pulse of a data folder tell of every change, whoever makes it and however it ends?"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mechaway_core.errors import Unavailable
from mechaway_core.folders import FolderStore
from mechaway_core.ports import UNCHANGED, Stored
from mechaway_core.settings import Settings
from mechaway_core.sqlite import ProjectFiles
from mechaway_core.sqlite.pulse import Pulse

HOLD = """
import sys
from pathlib import Path
from mechaway_core.sqlite.pulse import Pulse

with Pulse(Path(sys.argv[1])).changing():
    print("at work", flush=True)
    sys.stdin.read()
"""


def holding(folder: Path) -> subprocess.Popen[str]:
    """A process in the middle of a change."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def test_without_changes_nothing_is_made_and_nothing_vouched_for(tmp_path: Path) -> None:
    assert Pulse(tmp_path).epoch() is None
    assert list(tmp_path.iterdir()) == []


def test_a_change_is_a_new_epoch_for_everybody(tmp_path: Path) -> None:
    one, two = Pulse(tmp_path), Pulse(tmp_path)
    with one.changing():
        assert one.epoch() is None
    before = one.epoch()
    assert before is not None
    assert two.epoch() == before
    with two.changing():
        assert one.epoch() is None
    assert one.epoch() == two.epoch() != before


def test_changes_that_overlap_end_with_the_last(tmp_path: Path) -> None:
    one, two = Pulse(tmp_path), Pulse(tmp_path)
    with one.changing():
        with two.changing(), one.changing():
            pass
        assert two.epoch() is None
    assert two.epoch() == 3


def test_a_process_that_is_killed_in_a_change_leaves_doubt_until_the_next_change(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path)
    with pulse.changing():
        pass
    before = pulse.epoch()
    process = holding(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert pulse.epoch() is None
    with pulse.changing():
        assert pulse.epoch() is None
    after = pulse.epoch()
    assert after is not None
    assert before is not None
    assert after > before


def test_nobody_heals_while_somebody_else_is_at_work(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path)
    process = holding(tmp_path)
    with pulse.changing():
        pass
    assert pulse.epoch() is None
    process.communicate("")
    assert pulse.epoch() == 2


def test_many_threads_of_several_pulses_leave_it_even(tmp_path: Path) -> None:
    pulses = [Pulse(tmp_path) for _ in range(3)]

    def change(pulse: Pulse) -> None:
        for _ in range(200):
            with pulse.changing():
                pass

    threads = [threading.Thread(target=change, args=(pulse,)) for pulse in pulses * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [pulse.epoch() for pulse in pulses] == [1800, 1800, 1800]


def test_a_pulse_that_was_closed_opens_again(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path)
    with pulse.changing():
        pass
    pulse.close()
    pulse.close()
    assert pulse.epoch() == 1


def test_where_others_cannot_be_told_nothing_is_changed(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(Unavailable, match="the folder of the projects cannot be used"), Pulse(place).changing():
        raise AssertionError("it went on")


def test_what_another_process_saves_or_deletes_is_seen_at_once(tmp_path: Path) -> None:
    mine, theirs = (FolderStore(files) for files in (ProjectFiles(Settings(data_dir=tmp_path)), ProjectFiles(Settings(data_dir=tmp_path))))
    version = mine.put("default", "a", b"1")
    for number in range(50):
        assert mine.get("default", "a", version) is UNCHANGED
        assert mine.get("default", "a", version) is UNCHANGED
        theirs.put("default", "a", b"%d" % number)
        found = mine.get("default", "a", version)
        assert isinstance(found, Stored)
        assert found.data == b"%d" % number
        version = found.version
    assert mine.get("default", "a", version) is UNCHANGED
    theirs.delete("default", "a")
    assert mine.get("default", "a", version) is None
