"""Every file under `examples/` does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml

from tests.journeys.server import EXAMPLES, Server, mechaway, until

ORDER = {"customer": "ann", "lines": [{"sku": "a", "price": 2.5, "count": 2}, {"sku": "b", "price": 1, "count": 11}]}
CHECKED = {"total": 16.0, "ok": False, "missing": ["b"], "customer": "ann"}


@pytest.fixture(scope="module")
def blog(server: Server) -> httpx.Client:
    server.save(json.loads((EXAMPLES / "blog.json").read_text()))
    return server.http


def test_every_example_passes_the_check() -> None:
    files = sorted(str(path) for path in EXAMPLES.iterdir() if path.suffix in (".json", ".yaml", ".yml"))
    done = mechaway("check", *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{path}: ok" for path in files]


def test_a_blog_creates_lists_finds_shows_counts_and_updates_posts(blog: httpx.Client) -> None:
    assert blog.get("/webhook/blog/posts").json() == {"results": [], "count": 0, "table": "posts"}
    assert blog.get("/webhook/blog/posts/nothing-yet").status_code == 404

    created = blog.post("/webhook/blog/posts", json={"title": "Hello, World!", "body": "It is a fine day", "tags": ["a", "b"]})
    assert created.status_code == 201
    assert created.headers["location"] == "/webhook/blog/posts/hello-world"
    assert created.json() == {"id": 1, "slug": "hello-world", "title": "Hello, World!", "words": 5}
    assert blog.post("/webhook/blog/posts", json={"title": "Draft", "published": False}).json()["id"] == 2
    assert blog.post("/webhook/blog/posts", json={"title": 'It\'s 100% "quoted"; DROP TABLE posts'}).status_code == 201

    listed = blog.get("/webhook/blog/posts").json()
    assert listed["count"] == 2
    assert [post["slug"] for post in listed["results"]] == ["it-s-100-quoted-drop-table-posts", "hello-world"]
    assert listed["results"][1]["tags"] == ["a", "b"]
    assert listed["results"][1]["published"] is True

    found = blog.get("/webhook/blog/search", params={"q": "FINE"}).json()
    assert found == {"results": [{"slug": "hello-world", "title": "Hello, World!"}], "count": 1, "table": "posts"}
    assert blog.get("/webhook/blog/search", params={"q": "' OR 1=1 --"}).json()["count"] == 0
    assert blog.get("/webhook/blog/search").json()["count"] == 2

    one = blog.get("/webhook/blog/posts/hello-world")
    assert (one.status_code, one.json()["title"], one.json()["id"]) == (200, "Hello, World!", 1)
    missing = blog.get("/webhook/blog/posts/no-such-post")
    assert (missing.status_code, missing.json()) == (404, {"error": "there is no such post"})

    again = blog.post("/webhook/blog/posts", json={"title": "Hello, World!", "body": "Changed"})
    assert again.json() == {"id": 1, "slug": "hello-world", "title": "Hello, World!", "words": 1}
    assert blog.get("/webhook/blog/posts/hello-world").json()["body"] == "Changed"

    numbers = blog.get("/webhook/blog/stats").json()
    assert (numbers["posts"], numbers["published"]) == (3, 2)


def test_a_post_without_a_title_is_refused_with_the_words_of_the_script(blog: httpx.Client) -> None:
    refused = blog.post("/webhook/blog/posts", json={"body": "no title"})
    assert refused.status_code == 422
    assert refused.json()["node_id"] == "prepare"
    assert "a post needs a title" in refused.json()["detail"]


def test_posts_whose_titles_have_no_latin_letters_do_not_overwrite_each_other(blog: httpx.Client) -> None:
    slugs = [blog.post("/webhook/blog/posts", json={"title": title}).json()["slug"] for title in ("日本", "Москва")]
    assert slugs[0] != slugs[1]
    assert [blog.get(f"/webhook/blog/posts/{slug}").json()["title"] for slug in slugs] == ["日本", "Москва"]


def test_a_digest_counts_the_posts_once_a_day(data: Path) -> None:
    with Server(data) as server:
        server.save(json.loads((EXAMPLES / "blog.json").read_text()))
        server.save(yaml.safe_load((EXAMPLES / "daily-digest.yaml").read_text()))
        for title, body in (("One", "two words"), ("Two", "three more words")):
            assert server.http.post("/webhook/blog/posts", json={"title": title, "body": body}).status_code == 201
        for _ in range(2):
            record = server.record("daily-digest", node="clock")
            assert record["status"] == "succeeded"
        [row] = server.http.get("/api/tables/digests/rows").json()["rows"]
        assert (row["posts"], row["words"]) == (2, 5)
        [shown] = server.http.get("/api/schedules").json()["schedules"]
        assert shown["sentence"] == "at 08:30 on Monday to Friday, Europe/Berlin"


def test_a_folder_that_is_watched_brings_its_workflows_along(data: Path) -> None:
    with Server(data, "--watch", str(EXAMPLES)) as server:
        answer = server.http.post("/webhook/fan-out-merge/order", json=ORDER)
        assert (answer.status_code, answer.json()) == (200, CHECKED)
        listed = server.http.get("/api/workflows").json()["workflows"]
        assert {"blog", "fan-out-merge", "poc-grading-workflow"} <= {one["id"] for one in listed}
        until(lambda: "fan-out-merge" in server.out, "a line about the file")


def test_a_yaml_file_runs_without_a_server(tmp_path: Path) -> None:
    done = mechaway(
        "run",
        str(EXAMPLES / "fan-out-merge.yaml"),
        "--webhook",
        "/order",
        "--data",
        json.dumps(ORDER),
        "--json",
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert record["status"] == "succeeded"
    assert record["output"] == [CHECKED]
    assert [node["id"] for node in record["nodes"]] == ["order", "price", "stock", "merge"]
