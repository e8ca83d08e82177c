"""The way to a Redis, for every room that keeps or says something there: reached, repeated, redirected, bounded."""

from __future__ import annotations

from importlib.util import find_spec

from skep.errors import Unavailable

if find_spec("redis") is None or find_spec("hiredis") is None:
    raise Unavailable(
        "a Redis is named, but the packages for it are not installed", fix="Install them: pip install 'skep[redis]'"
    )
