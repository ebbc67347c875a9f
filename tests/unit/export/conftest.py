"""What several tests of the export share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.export.servers import ObjectServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """A server of objects; whoever uses it takes a prefix of its own."""
    made = ObjectServer(tmp_path_factory.mktemp("objects"))
    made.start()
    yield made
    made.kill()
