"""What all that can be asked of an owner has in common."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

R = TypeVar("R")


class Request(Struct, Generic[R], frozen=True, kw_only=True):
    """Asked of the owner; answered with an R."""
