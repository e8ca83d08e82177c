"""Where a Redis is, written as a URL, completed from the environment. Nothing here ever shows a password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from skep.config import redacted
from skep.errors import Invalid

#: Scheme -> (how it is reached, whether by TLS).
SCHEMES = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "unix": ("socket", False),
}
#: Files for TLS: what they are called in the URL -> what redis-py calls them.
TLS_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
_PORT, _SENTINEL_PORT = 6379, 26379
_FIX = "Write redis://HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE, redis+cluster://HOST:PORT or unix:///PATH."


class Address(Struct, frozen=True, kw_only=True):
    """A Redis. `kind`: server, socket, sentinel or cluster. `hosts`: one, or the Sentinels, or some nodes of the Cluster.

    `user` and `password` are the server's, `sentinel_password` the Sentinels'. `files`: for TLS, by redis-py's names.
    """

    url: str
    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    user: str = ""
    password: str = ""
    sentinel_password: str = ""
    tls: bool = False
    files: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """As it may be shown."""
        return redacted(self.url)

    __repr__ = __str__


def parse(url: str, env: Mapping[str, str]) -> Address:
    """What a URL names. `redis://` without a host means REDIS_HOST, REDIS_PORT and REDIS_DB (localhost, 6379, 0).

    A password that the URL lacks comes from the file that REDIS_PASSWORD_FILE names, or else from REDIS_PASSWORD; that of
    Sentinels from REDIS_SENTINEL_PASSWORD.

    Raises:
        Invalid: no such URL, or a file that cannot be read.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES or "://" not in url:
        raise Invalid(f"{redacted(url)} names no Redis", fix=_FIX)
    kind, tls = SCHEMES[scheme]
    parts = urlsplit(url)
    credentials, _, place = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    files, options = _options(url, parts.query, tls)
    path = unquote(parts.path)
    hosts: tuple[tuple[str, int], ...] = ()
    service, number = "", path.strip("/")
    if kind == "socket":
        number = options.get("db", "")
        if not path or place:
            raise Invalid(f"{redacted(url)} names no socket", fix="Write unix:///PATH, with three slashes.")
    else:
        if kind == "sentinel":
            service, _, number = path.strip("/").partition("/")
            if not service:
                raise Invalid(f"{redacted(url)} does not name the service that the Sentinels watch", fix=_FIX)
        if kind == "server" and not place:
            place = f"{env.get('REDIS_HOST') or 'localhost'}:{env.get('REDIS_PORT') or _PORT}"
            number = number or env.get("REDIS_DB", "")
        default = _SENTINEL_PORT if kind == "sentinel" else _PORT
        hosts = tuple(_host(url, each, default) for each in place.split(","))
        if kind == "server" and len(hosts) > 1:
            raise Invalid(f"{redacted(url)} names several servers", fix="Say redis+cluster:// or redis+sentinel://.")
    return Address(
        url=url,
        kind=kind,
        hosts=hosts,
        path=path if kind == "socket" else "",
        service=service,
        database=_database(url, kind, number),
        user=unquote(user),
        password=unquote(password) or secret(env, "REDIS_PASSWORD"),
        sentinel_password=env.get("REDIS_SENTINEL_PASSWORD", ""),
        tls=tls,
        files=files,
    )


def _options(url: str, query: str, tls: bool) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """The files for TLS, and the other options."""
    options = dict(parse_qsl(query))
    files = tuple((TLS_FILES[name], options.pop(name)) for name in TLS_FILES if tls and name in options)
    known = {"db"} if url.startswith("unix:") else set()
    if strange := sorted(options.keys() - known):
        more = "ca, cert and key (files)" if tls else "db" if known else "none"
        raise Invalid(f"{redacted(url)}: there is no option '{strange[0]}'", fix=f"Known here: {more}.")
    return files, options


def _host(url: str, text: str, default: int) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]` or `[::1]:port`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Invalid(f"{redacted(url)}: '{text}' is no host with a port", fix=_FIX)
    return host.strip("[]"), int(port)


def _database(url: str, kind: str, text: str) -> int:
    if not text:
        return 0
    if not text.isdecimal():
        raise Invalid(f"{redacted(url)}: '{text}' is no database's number", fix=_FIX)
    if kind == "cluster" and int(text):
        raise Invalid(f"{redacted(url)}: a Cluster has database 0 only", fix="Leave the number away.")
    return int(text)


def secret(env: Mapping[str, str], name: str) -> str:
    """A password: what the file holds that `<name>_FILE` names, or else `<name>` itself; empty if there is neither.

    Raises:
        Invalid: the file cannot be read.
    """
    if path := env.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"the password file {path} cannot be read: {error}", fix=f"Correct {name}_FILE.") from None
    return env.get(name, "")
