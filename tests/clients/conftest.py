"""For the tests with coding clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clients.model_server import ModelServer


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A scripted model."""
    async with ModelServer() as server:
        yield server
