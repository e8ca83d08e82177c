"""The embedder of a service: whatever answers `POST .../embeddings` as OpenAI does, hosted or on this machine."""

from __future__ import annotations

import importlib
import math
import os
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from skep.config import EmbeddingsConfig
from skep.errors import Invalid, Unavailable
from skep.memory.limits import MAX_VECTOR

#: Seconds for one answer, how often it is asked for, seconds between, and seconds in which nobody asks a service that failed.
TIMEOUT, TRIES, PAUSE, AWAY = 5.0, 2, 0.5, 10.0
#: Texts in one request, and bytes of an answer.
MOST_TEXTS, MOST_BYTES = 64, 32 * 2**20
#: Answers that may be better the next time.
_LATER = (408, 409, 425, 429, 500, 502, 503, 504)


class _Item(Struct):
    index: int
    embedding: list[float]


class _Answer(Struct):
    data: list[_Item]


class Provider:
    """The port `Embedder` over a service.

    Args:
        config: where it is, which model, and which variable of the environment has the key.

    Raises:
        Invalid: a setting is missing or wrong.
        Unavailable: the HTTP client is not installed, or the variable with the key is not set.
    """

    real = True

    def __init__(self, config: EmbeddingsConfig) -> None:
        if not config.url.startswith(("http://", "https://")) or not config.model:
            fix = "Set `url` (http:// or https://, up to /v1) and `model` in [memory.embeddings] of skep.toml."
            raise Invalid("the embedder 'provider' has no URL or no model", fix)
        if config.key and not os.environ.get(config.key):
            what = f"the embedder 'provider' needs a key, and {config.key} is not set"
            raise Unavailable(what, f"Set {config.key}, or `key` in [memory.embeddings] of skep.toml; empty = there is none.")
        try:
            self._http: Any = importlib.import_module("httpx2")
        except ImportError:
            raise Unavailable("the embedder 'provider' needs an HTTP client", "Run: pip install 'skep[llm]'") from None
        #: Another model makes all vectors anew.
        self.name = f"provider {config.model}"
        self.size = config.size
        self._config = config
        self._headers = {"Authorization": f"Bearer {os.environ[config.key]}"} if config.key else {}
        self._lock = threading.Lock()
        self._away, self._why = 0.0, ""

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.embed`. Raises Unavailable if the service does not give what it should."""
        found: list[bytes] = []
        with self._http.Client(timeout=TIMEOUT, headers=self._headers) as client:
            for start in range(0, len(texts), MOST_TEXTS):
                found += self._asked(client, list(texts[start : start + MOST_TEXTS]))
        return found

    def _asked(self, client: Any, texts: list[str]) -> list[bytes]:
        with self._lock:
            if time.monotonic() < self._away:
                raise self._failed(self._why)
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE)
            try:
                status, body = self._sent(client, texts)
            except self._http.HTTPError as error:
                why = f"it does not answer ({type(error).__name__})"
                continue
            if status == 200:
                return self._read(body, len(texts))
            why = f"it answered {status}"
            if status not in _LATER:
                break
        with self._lock:
            self._away, self._why = time.monotonic() + AWAY, why
        raise self._failed(why)

    def _sent(self, client: Any, texts: list[str]) -> tuple[int, bytes]:
        asked: dict[str, Any] = {"model": self._config.model, "input": texts, "encoding_format": "float"}
        if self._config.size:
            asked["dimensions"] = self._config.size
        deadline = time.monotonic() + TIMEOUT
        with client.stream("POST", self._config.url.rstrip("/") + "/embeddings", json=asked) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > deadline:
                    raise self._failed("its answer is too large or too slow")
            return response.status_code, bytes(body)

    def _read(self, body: bytes, count: int) -> list[bytes]:
        try:
            items = sorted(msgspec.json.decode(body, type=_Answer).data, key=lambda item: item.index)
        except msgspec.MsgspecError:
            raise self._failed("its answer is none") from None
        sizes = {len(item.embedding) for item in items}
        if [item.index for item in items] != list(range(count)) or len(sizes) != 1 or not 0 < max(sizes) <= MAX_VECTOR:
            raise self._failed("it does not give one vector for each text, all of one length")
        found = []
        for item in items:
            length = math.sqrt(sum(number * number for number in item.embedding))
            if not math.isfinite(length) or not length:
                raise self._failed("it gives a vector that points nowhere")
            found.append(struct.pack(f"<{len(item.embedding)}f", *(number / length for number in item.embedding)))
        self.size = self.size or max(sizes)
        return found

    def _failed(self, why: str) -> Unavailable:
        fix = "Check `url`, `model` and the key in [memory.embeddings] of skep.toml."
        return Unavailable(f"the embeddings of {self._config.model} cannot be had: {why}", fix)
