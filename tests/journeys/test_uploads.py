"""Uploads: what callers send as files, what comes back, and that nothing is left of what was refused."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.server import PATIENCE, Caller, Server, chain, client, echo, hook, lua, problem, read_answer, until

KIND = b"Content-Type: multipart/form-data; boundary=cut\r\n"
HEAD = b'--cut\r\nContent-Disposition: form-data; name="f"; filename="big"\r\n\r\n'


def returner(workflow_id: str = "back", **params: Any) -> dict[str, Any]:
    """A workflow that answers the uploaded file."""
    return chain(workflow_id, hook(), {"id": "out", "node_type": "Respond", "params": {"file": "{{ $file.f }}", **params}})


def lister(workflow_id: str = "list") -> dict[str, Any]:
    """A workflow that answers the fields and what is known about the files."""
    said = {"fields": "{{ $json }}", "f": "{{ $file.f }}", "sizes": "{{ $file.f and ($file.f.size or #$file.f) }}"}
    return chain(workflow_id, hook(), {"id": "out", "node_type": "Respond", "params": {"body": said}})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("uploads") / "data", max_body_mb=1, max_upload_mb=70, max_file_mb=68, max_upload_files=3) as made:
        prepare(made)
        yield made


def prepare(server: Caller) -> None:
    """The workflows that most of these tests call."""
    server.save(returner())
    server.save(lister())
    server.save(chain("post", hook("/x", "POST"), lua("work", "return data")))


def strays(data: Path) -> list[str]:
    """Uploads on their way that have a name in the data folder."""
    return [path.name for path in data.iterdir() if path.name.startswith(".upload")]


def open_files(server: Server) -> list[str]:
    return [target for target in server.open_in_data() if "/files/" in target]


def tricky(size: int) -> bytes:
    """Random bytes with line ends and what looks like boundaries in them."""
    chance = random.Random(7)
    pieces = [chance.randbytes(997), b"\r\n", b"--cut", b"\r\n--cu", b"\r\n--", b"\r", b"\n", b"\0" * 50]
    made = b""
    while len(made) < size:
        made += b"".join(chance.choices(pieces, k=100))
    return made[:size].replace(b"\r\n--cut", b"\r\n--cuT")


# -- there and back


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_001, 3_000_000])
def test_an_upload_comes_back_byte_for_byte(server: Server, size: int) -> None:
    content = tricky(size)
    sent = HEAD + content + b"\r\n--cut--\r\n"
    answer = server.http.post("/webhook/back", content=sent, headers={"content-type": "multipart/form-data; boundary=cut"})
    assert answer.status_code == 200, answer.text[:500]
    assert answer.content == content
    assert answer.headers["content-length"] == str(size)


def test_an_upload_in_chunks_comes_back_too(server: Server) -> None:
    content = tricky(2_500_000)
    sent = HEAD + content + b"\r\n--cut--\r\n"
    pieces = (sent[at : at + 77_777] for at in range(0, len(sent), 77_777))
    answer = server.http.post("/webhook/back", content=pieces, headers={"content-type": "multipart/form-data; boundary=cut"})
    assert (answer.status_code, answer.content) == (200, content)


def test_fields_are_the_item_and_files_are_described(server: Server) -> None:
    files = [("f", ("ä b.txt", b"hello", "text/plain")), ("f", ("two", b"\xff", "image/png"))]
    said = server.http.post("/webhook/list", data={"a": ["1", "2"], "b[]": "ü"}, files=files).json()
    assert said["fields"] == {"a": ["1", "2"], "b[]": "ü"}
    handles = [one.pop("handle") for one in said["f"]]
    assert said["f"] == [
        {"filename": "ä b.txt", "content_type": "text/plain", "size": 5},
        {"filename": "two", "content_type": "image/png", "size": 1},
    ]
    assert len(set(handles)) == 2
    assert said["sizes"] == 2


def test_a_file_goes_out_under_its_name_to_be_saved_not_to_be_run(server: Server) -> None:
    answer = server.http.post("/webhook/back", files={"f": ('a"b;ü.html', b"<script>", "text/html")})
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment; filename=\"a_22b;_.html\"; filename*=UTF-8''a%2522b%3B%C3%BC.html"
    assert answer.headers["mechaway-run-id"]


def test_the_workflow_may_choose_type_and_disposition(server: Server) -> None:
    server.save(returner("inline", headers={"Content-Type": "image/png", "Content-Disposition": "inline"}, status=201))
    answer = server.http.post("/webhook/inline", files={"f": ("a", b"x", "text/html")})
    assert (answer.status_code, answer.content) == (201, b"x")
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == ("image/png", "inline")


def test_head_tells_the_length_and_sends_nothing(server: Server) -> None:
    handle = server.http.post("/webhook/list", files={"f": ("a", b"12345")}).json()["f"]["handle"]
    server.save(returner("get", file="{{ $query.handle }}"))
    address = f"/webhook/get?handle={handle}"
    answer = server.http.head(address)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5", b"")
    answer = server.http.get(address)
    assert (answer.content, answer.headers["content-disposition"]) == (b"12345", "attachment")
    assert server.http.get(address).content == b"12345", "the connection goes on"


@pytest.mark.parametrize("name", ["../../../escape", "/etc/passwd", "..", ".", "a\\..\\b", "x" * 4000, "%00", "\t", " "])
def test_a_filename_is_never_part_of_a_path(server: Server, name: str) -> None:
    before = {path for path in server.data.parent.rglob("*") if path.is_file()}
    sent = b'--cut\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\nx\r\n--cut--' % name.encode()
    answer = server.http.post("/webhook/list", content=sent, headers={"content-type": "multipart/form-data; boundary=cut"})
    assert answer.status_code == 200, answer.text
    info = answer.json()["f"]
    assert "/" not in info["filename"]
    assert "\\" not in info["filename"]
    assert len(info["filename"]) <= 255
    new = {path for path in server.data.parent.rglob("*") if path.is_file()} - before - {Path(f"{server.logs}.err")}
    [file] = [path for path in new if not path.name.startswith("project.db") and not path.name.startswith("simpletable.db")]
    assert file.parent.parent == server.data / "default" / "files"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_handle_of_another_project_finds_nothing(server: Server) -> None:
    server.http.post("/api/projects", json={"slug": "other"})
    server.save(returner("get", file="{{ $query.handle }}"), "other")
    handle = server.http.post("/webhook/list", files={"f": ("a", b"12345")}).json()["f"]["handle"]
    for wrong in (handle, "file:../default", f"{handle}/../x", "", "file:"):
        told = problem(server.http.get("/p/other/webhook/get", params={"handle": wrong}), 422)
        assert told["node_id"] == "out"


def test_answering_with_a_file_that_nobody_sent_says_so(server: Server) -> None:
    assert "file" in problem(server.http.post("/webhook/back", json={"f": 1}), 422)["detail"]
    assert "file" in problem(server.http.post("/webhook/back", files={"g": b"x"}), 422)["detail"]


def test_deleting_a_project_deletes_its_files(server: Server) -> None:
    server.http.post("/api/projects", json={"slug": "gone"})
    server.save(lister(), "gone")
    assert server.http.post("/p/gone/webhook/list", files={"f": b"x"}).status_code == 200
    assert len(server.kept("gone")) == 1
    assert server.http.delete("/api/projects/gone").status_code == 200
    assert server.kept("gone") == []


def test_uploads_to_two_processes_side_by_side_each_come_back(data: Path) -> None:
    def comes_back(number: int) -> bool:
        content = random.Random(number).randbytes(100_000 * number)
        with client(made.url) as http:
            return http.post("/webhook/back", files={"f": content}).content == content

    with Server(data, "--workers", "2", sync="full") as made:
        made.save(returner())
        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(comes_back, range(24)))
        assert len(made.kept()) == 24


# -- what is refused


def test_an_address_that_is_none_is_told_before_the_body_is_read(server: Server) -> None:
    for line, status in ((b"POST /webhook/none", 404), (b"POST /webhook/post/y", 404), (b"PUT /webhook/post/x", 405)):
        with server.connect() as connection:
            connection.sendall(
                line + b" HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n"
            )
            problem(read_answer(connection), status)


@pytest.mark.parametrize("length", [70_000_001, 5_000_000_000])
def test_too_much_is_refused_by_its_announced_length(server: Server, length: int) -> None:
    before = server.kept()
    with server.connect() as connection:
        connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: %d\r\n\r\n" % length)
        told = problem(read_answer(connection), 413)
    assert "MECHAWAY_MAX_UPLOAD_MB" in told["detail"]
    assert server.kept() == before


def flood(connection: socket.socket, most: int) -> int:
    """Send chunks without end, or `most` bytes, until the server says something; how many bytes went out."""
    block = b"x" * 1_000_000
    chunk = b"%x\r\n%s\r\n" % (len(block), block)
    sent = 0
    connection.settimeout(PATIENCE)
    while sent < most:
        try:
            connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            break
        sent += len(block)
        connection.setblocking(False)
        try:
            if connection.recv(1, socket.MSG_PEEK):
                break
        except BlockingIOError:
            pass
        finally:
            connection.settimeout(PATIENCE)
    return sent


def test_too_much_in_chunks_is_refused_as_it_comes_and_nothing_is_left(server: Server) -> None:
    before = server.kept()
    with server.connect() as connection:
        connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%s\r\n" % (len(HEAD), HEAD))
        sent = flood(connection, 5_000_000_000)
        assert sent < 200_000_000
        problem(read_answer(connection), 413)
    assert server.kept() == before
    assert strays(server.data) == []


def test_a_file_over_its_own_limit_is_refused_and_those_before_it_go_again(server: Server) -> None:
    before = server.kept()
    told = problem(server.http.post("/webhook/list", files=[("f", b"small"), ("f", b"x" * 68_000_001)]), 413)
    assert "MECHAWAY_MAX_FILE_MB" in told["detail"]
    told = problem(server.http.post("/webhook/list", files=[("f", b"x")] * 4), 413)
    assert "MECHAWAY_MAX_UPLOAD_FILES" in told["detail"]
    told = problem(server.http.post("/webhook/list", data={"a": "x" * 1_000_001}, files=[("f", b"x")]), 413)
    assert "MECHAWAY_MAX_BODY_MB" in told["detail"]
    assert server.kept() == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--cut--"),
        ("multipart/form-data; boundary=cut", b"hello"),
        ("multipart/form-data; boundary=cut", HEAD + b"abc"),
        ("multipart/form-data; boundary=cut", HEAD + b"abc\r\n--cut\r\nContent-Disposition: x\r\n\r\n\r\n--cut--"),
        ("multipart/form-data; boundary=cut", b"--cut\r\nA: " + b"x" * 500_000),
        ("multipart/form-data; boundary=cut", HEAD + b"x" * 2_000_000),
        ("multipart/form-data; boundary=cut", b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--cut--'),
        ("multipart/form-data; boundary=cut", b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 100_000),
    ],
)
def test_what_is_not_multipart_is_400_and_nothing_is_left(server: Server, kind: str, body: bytes) -> None:
    before = server.kept()
    problem(server.http.post("/webhook/list", content=body, headers={"content-type": kind}), 400)
    assert server.kept() == before
    until(lambda: not server.open_uploads(), "the upload to be let go")


def test_a_caller_that_goes_away_leaves_nothing(server: Server) -> None:
    before = server.kept()
    with server.connect() as connection:
        connection.sendall(
            b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: 60000000\r\n\r\n" + HEAD + b"x" * 20_000_000
        )
    until(lambda: not server.open_uploads(), "the upload to be let go")
    assert server.kept() == before
    assert strays(server.data) == []


def test_a_caller_that_goes_away_during_its_answer_leaves_no_file_open(server: Server) -> None:
    sent = HEAD + b"x" * 60_000_000 + b"\r\n--cut--"
    with server.connect() as connection:
        connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: %d\r\n\r\n" % len(sent) + sent)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert open_files(server)
    until(lambda: not open_files(server), "the file to be closed")


def test_an_upload_that_takes_too_long_is_408_and_leaves_nothing(data: Path) -> None:
    with Server(data, upload_timeout=0.5) as server:
        server.save(returner())
        with server.connect() as connection:
            connection.sendall(
                b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: 5000000\r\n\r\n" + HEAD + b"x" * 2_000_000
            )
            told = problem(read_answer(connection), 408)
        assert "MECHAWAY_UPLOAD_TIMEOUT" in told["detail"]
        until(lambda: not server.open_uploads(), "the upload to be let go")
        assert server.kept() == []


def drop_by_drop(connection: socket.socket, body: bytes, pieces: int, seconds: float) -> None:
    """Send a body over so many seconds; ends early when the server has something to say."""
    size = -(-len(body) // pieces)
    connection.settimeout(seconds / pieces)
    for at in range(0, len(body), size):
        connection.sendall(body[at : at + size])
        with contextlib.suppress(TimeoutError):
            connection.recv(1, socket.MSG_PEEK)
            break
    connection.settimeout(PATIENCE)


def test_a_slow_upload_has_its_own_time_and_all_else_that_of_every_body(data: Path) -> None:
    content = b"x" * 1000
    sent = HEAD + content + b"\r\n--cut--\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(sent)
    with Server(data, body_timeout=0.4, upload_timeout=100) as server:
        server.save(returner())
        with server.connect() as connection:
            connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + length)
            drop_by_drop(connection, sent, 20, 2.0)
            answer = read_answer(connection)
            assert (answer.status, answer.body) == (200, content)
            connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n1")
            told = problem(read_answer(connection), 408)
            assert "MECHAWAY_BODY_TIMEOUT" in told["detail"], "the time that was given to one request is not that of the next"
        for line in (b"POST /webhook/back HTTP/1.1\r\n", b"POST /api/workflows HTTP/1.1\r\n" + KIND):
            with server.connect() as connection:
                connection.sendall(line + b"Host: localhost\r\n" + length)
                drop_by_drop(connection, sent, 100, 10.0)
                answer = read_answer(connection)
                assert "MECHAWAY_BODY_TIMEOUT" in problem(answer, 408)["detail"]
                assert answer.headers["x-request-id"]


def test_an_upload_that_is_refused_gets_no_more_time(data: Path) -> None:
    with Server(data, body_timeout=0.4, upload_timeout=600) as server, server.connect() as connection:
        connection.sendall(b"POST /webhook/none HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: 1000\r\n\r\n")
        problem(read_answer(connection), 404)
        assert connection.recv(1) == b"", "the server closes what would go on waiting for a body that nobody reads"


def test_a_body_behind_a_request_that_takes_long_is_not_a_slow_one(data: Path) -> None:
    sent = HEAD + b"hello\r\n--cut--\r\n"
    with Server(data, body_timeout=0.4) as server:
        server.save(returner())
        server.save(chain("long", hook(), lua("work", "while true do end", timeout=1.5)))
        with server.connect() as connection:
            connection.sendall(b"GET /webhook/long HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.sendall(b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: %d\r\n\r\n-" % len(sent))
            problem(read_answer(connection), 422)
            connection.sendall(sent[1:])
            answer = read_answer(connection)
            assert (answer.status, answer.body) == (200, b"hello")


def test_a_disk_that_fills_is_503_and_nothing_is_left(data: Path) -> None:
    def cap() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    with Server(data, prepare=cap) as server:
        server.save(returner())
        assert server.http.post("/webhook/back", files={"f": b"x" * 2_000_000}).status_code == 200
        before = server.kept()
        told = problem(server.http.post("/webhook/back", files={"f": b"x" * 6_000_000}), 503)
        assert "disk" in told["detail"]
        until(lambda: not server.open_uploads(), "the upload to be let go")
        assert server.kept() == before
        assert server.http.post("/webhook/back", files={"f": b"x"}).content == b"x"


# -- memory, ends, age


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_large_upload_and_its_answer_need_no_memory(server: Server) -> None:
    small = server.http.post("/webhook/back", files={"f": b"x" * 3_000_000})
    assert small.status_code == 200
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # forget how high it was
    before = resident(server.process.pid)
    content = random.Random(3).randbytes(64_000_000)
    answer = server.http.post("/webhook/back", files={"f": content})
    assert answer.content == content
    assert resident(server.process.pid) - before < 8_000_000


def test_a_server_that_is_killed_during_an_upload_leaves_nothing_behind(data: Path) -> None:
    with Server(data) as server:
        server.save(returner())
        with server.connect() as connection:
            connection.sendall(
                b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: 60000000\r\n\r\n" + HEAD + b"x" * 9_000_000
            )
            until(lambda: bool(server.open_uploads()), "the upload to be on the disk")
            server.kill()
    with Server(data) as server:
        assert server.kept() == []
        assert strays(data) == []
        assert server.http.post("/webhook/back", files={"f": b"x"}).content == b"x"


def test_an_upload_that_comes_in_when_the_server_is_told_to_stop_is_still_answered(data: Path) -> None:
    sent = HEAD + b"x" * 3_000_000 + b"\r\n--cut--"
    with Server(data) as server:
        server.save(returner())
        with server.connect() as connection:
            connection.sendall(
                b"POST /webhook/back HTTP/1.1\r\nHost: localhost\r\n" + KIND + b"Content-Length: %d\r\n\r\n" % len(sent) + sent[:2_000_000]
            )
            until(lambda: bool(server.open_uploads()), "the upload to be on the disk")
            server.signal(signal.SIGTERM)
            until(lambda: server.http.post("/webhook/back").status_code == 503, "the server to drain")
            connection.sendall(sent[2_000_000:])
            answer = read_answer(connection)
        assert (answer.status, len(answer.body)) == (200, 3_000_000)
        assert answer.headers["connection"] == "close"
        assert server.process.wait(PATIENCE) == 0


def test_files_of_old_runs_are_deleted_when_the_server_starts_and_those_of_new_ones_are_not(data: Path) -> None:
    with Server(data) as server:
        server.save(lister())
        handles = [server.http.post("/webhook/list", files={"f": b"x"}).json()["f"]["handle"] for _ in range(2)]
    old, new = (data / "default" / "files" / handle.removeprefix("file:").partition("/")[0] for handle in handles)
    yesterday = int((time.time() - 25 * 3600) * 1000)
    aged = old.with_name(f"{yesterday:012x}"[:8] + "-" + f"{yesterday:012x}"[8:] + old.name[13:])
    old.rename(aged)
    with Server(data):
        until(lambda: not aged.exists(), "the files of the old run to go")
        assert len(server.kept()) == 1
        assert new.exists()


def test_a_workflow_that_answers_a_body_and_a_file_is_not_saved(server: Server) -> None:
    answer = server.http.post("/api/workflows", json=returner("both", body="x"))
    told = problem(answer, 422)
    assert told["errors"][0]["pointer"] == "/nodes/1/params/file"


def test_a_multipart_call_without_a_body_is_an_empty_item(server: Server) -> None:
    assert server.http.post("/webhook/list", headers={"content-type": "multipart/form-data; boundary=x"}).json()["fields"] == {}
    assert server.http.get("/webhook/list", headers={"content-type": "multipart/form-data"}).json()["fields"] == {}


def test_bodies_that_are_not_multipart_keep_their_own_limit(server: Server) -> None:
    server.save(echo("echo"))
    problem(server.http.post("/webhook/echo", content=b"x" * 1_000_001, headers={"content-type": "text/plain"}), 413)
