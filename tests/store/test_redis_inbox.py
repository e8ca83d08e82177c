"""Inboxes on Redis pass what all inboxes do, on each engine; and what is Redis's own about them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skep.errors import Invalid, Unavailable
from skep.redis import connect
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Answer, Inbox, Letter, chain, letters
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.keys import of_session
from skep.store.redis.log import RedisLog
from skep.store.redis.sealed import seal_letter
from skep.store.ring import HiveRing
from tests import servers
from tests.contracts.inbox import Ear, InboxContract, Shared, bodies, decide, fill, take
from tests.contracts.log import Pen, new_session
from tests.servers import Server
from tests.store.engines import Engine, OnCluster, OnRedis, OnValkey
from tests.wire import Wire

KEY = b"k" * 32
INBOX = of_session("s", "inbox")


class InboxOn(Engine):
    """Logs and inboxes on an engine."""

    async def open(self, most: int = letters.MAX_LETTERS, unread: int = letters.MAX_ANSWERS) -> Shared:
        link = self.link()
        ring = HiveRing(KEY)
        return Shared(await RedisLog.open(link, ring), RedisInbox(link, self.channels(), ring, most=most, unread=unread))


class RedisInboxHome(InboxOn, OnRedis):
    pass


class ValkeyInboxHome(InboxOn, OnValkey):
    pass


class ClusterInboxHome(InboxOn, OnCluster):
    pass


class TestOnRedis(InboxContract):
    home = RedisInboxHome


class TestOnCluster(InboxContract):
    home = ClusterInboxHome


class TestOnValkey(InboxContract):
    home = ValkeyInboxHome

    async def test_what_waits_goes_together(self, pen: Pen, place: ValkeyInboxHome) -> None:
        inbox = (await place.open()).inbox
        place.nodes[0].tell("CONFIG", "RESETSTAT")
        await asyncio.gather(*(inbox.put("s", "a", n, b"%d" % n) for n in range(1, 501)))
        assert bodies(await inbox.letters("s")) == [b"%d" % n for n in range(1, 501)]
        with place.nodes[0].client() as client:
            assert client.info("commandstats")["cmdstat_xadd"]["calls"] >= 500
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < 20

    @pytest.mark.parametrize("field", ["s", "n", "b", "session"])
    async def test_a_letter_that_is_not_what_was_put_is_refused_loudly(
        self, pen: Pen, inbox: Inbox, place: ValkeyInboxHome, field: str
    ) -> None:
        (letter,) = await fill(inbox, b"do this")
        said = {"s": b"a", "n": b"1", "b": seal_letter(HiveRing(KEY), "s", "a", 1, b"do this") + b"do this"}
        server = place.nodes[0]
        server.tell("XADD", INBOX, "*", *(part for pair in said.items() for part in pair))
        assert bodies(await inbox.letters("s")) == [b"do this"] * 2
        if field == "session":
            said["b"] = seal_letter(HiveRing(KEY), "t", "a", 1, b"do this") + b"do this"
        else:
            said[field] = {"s": b"b", "n": b"2", "b": said["b"] + b"!"}[field]
        spoilt = server.tell("XADD", INBOX, "*", *(part for pair in said.items() for part in pair))
        assert isinstance(spoilt, bytes)
        with pytest.raises(Invalid, match=f"letter at {spoilt.decode()} is damaged, or put there without the key") as caught:
            await inbox.letters("s")
        assert f"XDEL {INBOX} {spoilt.decode()}" in caught.value.fix
        assert isinstance(caught.value, letters.Unsealed)
        assert (bodies(caught.value.sealed), caught.value.last) == ([b"do this"] * 2, spoilt.decode())
        server.tell("XDEL", INBOX, spoilt)
        assert (await inbox.letters("s"))[0] == letter

    @pytest.mark.parametrize("entry", [("x", "y"), ("s", b"\xff", "n", "1", "b", ""), ("s", "a", "n", "9" * 5000, "b", "")])
    async def test_what_is_no_letter_is_refused_loudly(
        self, pen: Pen, inbox: Inbox, place: ValkeyInboxHome, entry: tuple[str | bytes, ...]
    ) -> None:
        place.nodes[0].tell("XADD", INBOX, "5-0", *entry)
        with pytest.raises(Invalid, match="letter at 5-0 is damaged"):
            await inbox.letters("s")

    async def test_an_answer_that_is_not_what_was_left_is_refused_loudly(
        self, pen: Pen, inbox: Inbox, place: ValkeyInboxHome
    ) -> None:
        await decide(pen, take((await fill(inbox, b"one"))[0]))
        server, key = place.nodes[0], of_session("s", "answers", "a")
        forged = chain.seal(b"guess", "answer", "s", "a", 2, b"yes") + b"yes"
        for member in (b"2 " + forged, b"x " + forged, b""):
            server.tell("ZADD", key, 2, member)
            with pytest.raises(Invalid, match="of a is damaged, or left there without the key"):
                await inbox.answers("s", "a")
            server.tell("ZREM", key, member)
        assert await inbox.answers("s", "a") == [Answer(1, b"answer")]

    @pytest.mark.parametrize(
        "message",
        [b"x", b"\n", b"1-0 a 1 5\nabc", b"1-0 a 1 40\n" + bytes(40), b"a b c d e 1\nx", b"1 -5\n", b"1-0 a 1 1_0\n"],
    )
    async def test_what_nobody_with_the_key_said_only_makes_the_listener_look(
        self, pen: Pen, inbox: Inbox, place: ValkeyInboxHome, message: bytes
    ) -> None:
        reader, sender = Ear(), Ear()
        stops = [await inbox.listen("s", reader.hear), await inbox.listen("s", sender.hear, "a")]
        for part in (("in",), ("log",), ("to", "a")):
            place.nodes[0].tell("PUBLISH", of_session("s", *part), message)
        await decide(pen, take((await fill(inbox, b"one"))[0]))
        await reader.until(lambda heard: any(isinstance(one, Letter) for one in heard))
        await sender.until(lambda heard: any(isinstance(one, Answer) for one in heard))
        (letter,) = [one for one in reader.heard if one is not None]
        assert isinstance(letter, Letter)
        assert [one for one in sender.heard if isinstance(one, Answer)] == [Answer(1, b"answer")]
        for stop in stops:
            await stop()

    async def test_a_put_whose_reply_was_lost_is_put_once(self, pen: Pen, place: ValkeyInboxHome) -> None:
        async with Wire(place.nodes[0].port) as lossy:
            place.url = lossy.url
            inbox = (await place.open()).inbox
            await inbox.put("s", "a", 1, b"one")
            lossy.lose(b"EVALSHA")
            await asyncio.gather(*(inbox.put("s", "a", n, b"%d" % n) for n in (2, 3, 4)))
            assert bodies(await inbox.letters("s")) == [b"one", b"2", b"3", b"4"]
            assert lossy.lost == 1
            await place.close()

    async def test_letters_to_a_server_that_is_away_are_put_when_it_is_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connect, "PAUSE", 0.01)
        server = Server(servers.valkey_binary())
        link = Link(server.url, {})
        channels = Channels(link)
        inbox, pen = RedisInbox(link, channels, HiveRing(KEY)), await new_session(await RedisLog.open(link, HiveRing(KEY)))
        await fill(inbox, b"1")
        server.kill()
        puts = [inbox.put("s", "a", n, b"%d" % n) for n in (2, 3)]
        ended = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(error) for error in ended] == [Unavailable] * 2
        server.start()
        with pytest.raises(Unavailable, match="before its letter 2"):
            await inbox.put("s", "a", 3, b"3")
        await fill(inbox, b"2", b"3", first=2)
        assert bodies(await inbox.letters("s")) == [b"1", b"2", b"3"]
        await decide(pen, *(take(letter) for letter in await inbox.letters("s")))
        await channels.close()
        await link.close()
        server.remove()

    async def test_who_gives_up_waiting_may_have_put_its_letter(self, pen: Pen, inbox: Inbox) -> None:
        put = asyncio.ensure_future(inbox.put("s", "a", 1, b"one"))
        await asyncio.sleep(0)
        put.cancel()
        await inbox.put("s", "a", 2, b"two")
        assert bodies(await inbox.letters("s")) == [b"one", b"two"]
