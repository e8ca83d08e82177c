"""The store on Redis, for sessions beyond one machine: `connect` reaches it, each port has a file."""

from __future__ import annotations

from importlib.util import find_spec

from skep.errors import Unavailable

if find_spec("redis") is None or find_spec("hiredis") is None:
    raise Unavailable(
        "the store is on Redis, but the packages for it are not installed", fix="Install them: pip install 'skep[redis]'"
    )
