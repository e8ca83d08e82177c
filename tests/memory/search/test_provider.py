"""Embeddings of a service: asked as OpenAI is, in bounds, and without it words are found all the same."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skep.config import EmbeddingsConfig
from skep.errors import Invalid, Unavailable
from skep.memory import Search
from skep.memory.search import provider
from skep.memory.search.embedders import embedder_named
from skep.memory.search.index import Index
from tests.memory.search.test_index import feed, record

KEY = "canary-5d1f"


class Service:
    """A server that answers as it is told, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        #: Makes (status, body) of a request; the number says how many there were before.
        self.answer: Callable[[int, dict[str, Any]], tuple[int, object]] = lambda _, body: (200, vectors(body["input"]))
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, said = service.answer(len(service.asked), body)
                service.asked.append((self.path, self.headers.get("Authorization", ""), body))
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def vectors(texts: list[str]) -> dict[str, Any]:
    """Such that texts about a pool lie in one direction, all others in another; the last one comes first."""
    items = [{"index": at, "embedding": [3.0, 0.1] if "pool" in text else [0.1, 3.0]} for at, text in enumerate(texts)]
    return {"object": "list", "data": items[::-1]}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    pytest.importorskip("httpx2", reason="the extra 'llm' is not installed")
    monkeypatch.setenv("EMBEDDINGS_KEY", KEY)
    monkeypatch.setattr(provider, "PAUSE", 0.0)
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def config(service: Service) -> EmbeddingsConfig:
    """Of that service."""
    return EmbeddingsConfig(url=service.url, model="small", key="EMBEDDINGS_KEY")


def test_it_is_asked_as_openai_is_and_again_when_it_is_busy(service: Service) -> None:
    service.answer = lambda before, body: (429, {}) if not before else (200, vectors(body["input"]))
    embedder = embedder_named("provider", config(service))
    found = [array("f", one) for one in embedder.embed(["the pool", "else"])]
    assert [round(one[0], 2) for one in found] == [1.0, 0.03]
    path, authorization, body = service.asked[1]
    assert (path, authorization) == ("/v1/embeddings", f"Bearer {KEY}")
    assert (body["model"], body["input"]) == ("small", ["the pool", "else"])
    assert (embedder.name, embedder.size, embedder.real) == ("provider small", 2, True)


@pytest.mark.parametrize(
    "answer",
    [
        (401, {"error": KEY}),
        (500, {}),
        (200, b"not json"),
        (200, {"data": []}),
        (200, {"data": [{"index": 0, "embedding": []}]}),
        (200, {"data": [{"index": 1, "embedding": [1.0]}]}),
        (200, {"data": [{"index": 0, "embedding": [0.0, 0.0]}]}),
        (200, {"data": [{"index": 0, "embedding": ["x"]}]}),
        (302, {}),
    ],
)
def test_what_is_no_answer_is_refused_and_the_key_is_not_told(service: Service, answer: tuple[int, object]) -> None:
    service.answer = lambda *_: answer
    with pytest.raises(Unavailable, match="embeddings of small cannot be had") as refused:
        embedder_named("provider", config(service)).embed(["a"])
    assert KEY not in str(refused.value)


def test_who_failed_is_left_alone_for_a_while(service: Service) -> None:
    service.answer = lambda *_: (503, {})
    embedder = embedder_named("provider", config(service))
    for _ in range(5):
        with pytest.raises(Unavailable, match="503"):
            embedder.embed(["a"])
    assert len(service.asked) == provider.TRIES


def test_an_answer_that_does_not_end_is_cut_off(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "MOST_BYTES", 1_000)
    service.answer = lambda *_: (200, b" " * 100_000)
    with pytest.raises(Unavailable, match="too large"):
        embedder_named("provider", config(service)).embed(["a"])


async def test_without_the_service_words_are_found_and_that_is_said(service: Service, tmp_path: Path) -> None:
    index = await Index.open(tmp_path / "index.db", embedder_named("provider", config(service)))
    await feed(index, record("a", "how many connections the pool has"), record("b", "something else"))
    ranked, note = await index.find(Search(text="pool of links", mode="meaning", wait=True))
    assert [one.key for one in ranked][:1] == ["a"]
    assert "hashed" not in note
    assert index.embedder == "provider small"
    service.answer = lambda *_: (500, {})
    ranked, note = await index.find(Search(text="connections"))
    assert [one.why for one in ranked] == [("words: connections",)]
    assert "only words were looked at: the embeddings of small cannot be had: it answered 500" in note
    await index.close()


def test_settings_that_cannot_work_are_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="no URL or no model"):
        embedder_named("provider")
    monkeypatch.delenv("EMBEDDINGS_KEY")
    with pytest.raises(Unavailable, match="EMBEDDINGS_KEY is not set"):
        embedder_named("provider", config(service))
