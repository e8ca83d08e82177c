"""A model for tests: the protocols of four vendors on one port of loopback, and a script instead of a mind (see `script.py`).

    async with ModelServer() as server:
        ...  # clients use server.url; server.requests holds what they sent
        await server.until(lambda: len(server.requests) == 2)

By hand: `python -m tests.clients.model_server --port 4000`, which prints each request's line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from tests.clients.dialects import Anthropic, Chat, Dialect, Gemini, Responses
from tests.clients.script import Fault, Script

ROUTES: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r"(/v1)?/messages"), Anthropic()),
    (re.compile(r"(/v1)?/responses"), Responses()),
    (re.compile(r"(/v1)?/chat/completions"), Chat()),
    (re.compile(r"/v1\w*/models/[^/:]+:(streamGenerateContent|generateContent)"), Gemini()),
)
COUNTS = {
    re.compile(r"(/v1)?/messages/count_tokens"): "input_tokens",
    re.compile(r"/v1\w*/models/[^/:]+:countTokens"): "totalTokens",
}
SECRET = re.compile(r"authorization|cookie|.*(key|token|secret).*")
REASONS = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    529: "Overloaded",
}
#: Bytes of a request; a conversation with all its tools is some hundred thousand.
LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """What a client sent. Headers have lower-case names; the values of secret ones are gone, as is a key in the path."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Cut(Exception):
    """The connection ends here, in the middle of a reply."""


class ModelServer:
    """Serves while it is entered. Args: port 0 takes a free one."""

    def __init__(self, port: int = 0, seen: Callable[[Request], None] = lambda request: None) -> None:
        self.port = port
        self.requests: list[Request] = []
        #: A status with which every request is answered, as by one that does not take the login; 0 = as the script says.
        self.refuses = 0
        self._seen = seen
        self._news = asyncio.Condition()
        self._held: Counter[str] = Counter()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._befell: Counter[tuple[str, str, int]] = Counter()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Waits until this holds; it is asked after each request."""
        async with self._news:
            await self._news.wait_for(happened)

    async def holding(self, gate: str, times: int = 1) -> None:
        """Waits until so many replies have been stopped by a `HOLD: gate`."""
        await self.until(lambda: self._held[gate] >= times)

    def release(self, gate: str) -> None:
        """Lets the replies go on that a `HOLD: gate` stopped, and those that come later."""
        self._gates[gate].set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            # Only the server's own end cancels; Python 3.11 prints a traceback if that is passed on.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, Cut, asyncio.CancelledError):
                while request := await received(reader):
                    self.requests.append(request)
                    self._seen(request)
                    async with self._news:
                        self._news.notify_all()
                    await self._answer(request, writer)
                    await writer.drain()
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        path = request.path.partition("?")[0]
        dialect = next((dialect for pattern, dialect in ROUTES if pattern.fullmatch(path)), None)
        count = next((name for pattern, name in COUNTS.items() if pattern.fullmatch(path)), None)
        if dialect and request.method == "POST":
            await self._speak(dialect, request, writer)
        elif count:
            send(writer, 200, {count: len(json.dumps(request.body)) // 4})
        elif path in ("/", "/v1/models", "/models"):
            send(writer, 200, {"object": "list", "data": [], "models": []}, bodiless=request.method == "HEAD")
        else:
            send(writer, 404, {"error": {"message": f"{request.method} {path} is not served here.", "code": "not_found"}})

    async def _speak(self, dialect: Dialect, request: Request, writer: asyncio.StreamWriter) -> None:
        asked = dialect.read(request.path, request.body)
        script, number = Script(asked), len(self.requests)
        if self.refuses:
            send(writer, self.refuses, dialect.error(self.refuses, f"The test says {self.refuses}.", ""))
            return
        fault = await self._befall(script, request.path)
        if fault and fault.kind == "FAIL":
            code, _, words = fault.value.partition(" ")
            status, retry_after = int(code), fault.options.get("retry-after", "")
            headers = {"Retry-After": retry_after} if retry_after else {}
            if limit := int(fault.options.get("limit", 0)):
                headers |= dialect.limit(int(time.time()) + limit)
            body = dialect.error(status, words or f"The script says {status}.", retry_after, limit)
            send(writer, status, body, headers)
            return
        if asked.stream:
            events = [sse(name, json.dumps(data)) for name, data in dialect.events(asked, script.reply(), number)]
            stream(writer, events + [sse("", dialect.last)] * bool(dialect.last), cut=bool(fault))
        else:
            send(writer, 200, dialect.whole(asked, script.reply(), number), cut=bool(fault))

    async def _befall(self, script: Script, path: str) -> Fault | None:
        """Lets delays and gates pass; gives the failure or cut that this step still has to suffer."""
        for fault in script.faults():
            key = (fault.kind, script.prompt, fault.step)
            if fault.kind == "DELAY":
                # tidy: sleeps because a slow model is what the script asks for
                await asyncio.sleep(float(fault.value))
            elif fault.kind == "HOLD":
                self._held[fault.value] += 1
                async with self._news:
                    self._news.notify_all()
                await self._gates[fault.value].wait()
            elif self._befell[key] < fault.times and fault.options.get("of", "") in path:
                self._befell[key] += 1
                return fault
        return None


async def received(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None when it is over."""
    first = (await reader.readline()).decode()
    if not first:
        return None
    method, path, _ = first.split()
    headers = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = "(secret)" if SECRET.fullmatch(name.lower()) else value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        body = await reader.readexactly(length)
    path = re.sub(r"([?&]key=)[^&]*", r"\1(secret)", path)
    return Request(method, path, headers, json.loads(body) if body else {})


def head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    """Writes the status line and the headers."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())


def send(
    writer: asyncio.StreamWriter,
    status: int,
    body: dict[str, Any],
    headers: dict[str, str] | None = None,
    cut: bool = False,
    bodiless: bool = False,
) -> None:
    """Writes a whole answer, or with `cut` the first half of it."""
    data = json.dumps(body).encode()
    head(writer, status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})})
    writer.write(b"" if bodiless else data[: len(data) // 2] if cut else data)
    if cut:
        raise Cut


def stream(writer: asyncio.StreamWriter, events: list[bytes], cut: bool) -> None:
    """Writes server-sent events, or with `cut` the first half of them."""
    head(writer, 200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    for event in events[: len(events) // 2] if cut else events:
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
    if cut:
        raise Cut
    writer.write(b"0\r\n\r\n")


def sse(name: str, data: str) -> bytes:
    """One server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


async def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description="A scripted model on loopback; see tests/clients/script.py.")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    async with ModelServer(options.port, lambda request: print(request.method, request.path, flush=True)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
