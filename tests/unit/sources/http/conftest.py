"""A server of files on the loopback, and a station that fetches from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.sources.http.fetching import DATA, Fetch
from tests.unit.sources.loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.sources.station import Station


@pytest.fixture
def web() -> Iterator[Loopback]:
    with serving(Loopback(files={"/big": DATA, "/small": DATA[:1000]})) as web:
        yield web


@pytest.fixture
def fetch(station: Station, web: Loopback) -> Fetch:
    return Fetch(station, web)
