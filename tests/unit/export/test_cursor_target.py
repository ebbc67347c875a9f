"""A position is of one target: another one is refused, and nothing is passed over in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportTargetChanged
from appliance.export.segments import Place
from appliance.export.sinks.cursor import read_cursor, write_cursor
from appliance.export.sinks.feed import Feed
from appliance.export.sinks.lines import json_lines
from appliance.export.sinks.object_feed import ObjectFeed
from appliance.export.sinks.outlets import outlets
from tests.unit.export.test_feed import Desk, certificate
from tests.unit.export.test_objects import Shelf
from tests.unit.export.test_sink_troubles import Taker

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.export.sinks.feed import Outlet

END = Place(9, 0)


@pytest.mark.parametrize(("former", "now"), [("topic a", "topic b"), ("topic a", "")])
def test_another_target_is_named_and_refused(tmp_path: Path, former: str, now: str) -> None:
    write_cursor(tmp_path / "cursor", Place(1, 5), "", former)
    assert read_cursor(tmp_path / "cursor", END, former) == (Place(1, 5), "")
    with pytest.raises(ExportTargetChanged) as said:
        read_cursor(tmp_path / "cursor", END, now)
    assert (said.value.wanted, said.value.exit_code) == (former, 3)
    assert "remove the file" in str(said.value.hint)


def test_a_position_of_before_there_were_targets_is_taken_for_this_one(tmp_path: Path) -> None:
    write_cursor(tmp_path / "cursor", Place(1, 5), "")
    assert read_cursor(tmp_path / "cursor", END, "topic a") == (Place(1, 5), "")


@pytest.mark.parametrize("kind", ["messages", "objects"])
def test_an_output_goes_on_where_it_was_and_not_elsewhere(tmp_path: Path, kind: str) -> None:
    place = Desk(tmp_path)
    place.receive(0, 6)

    def made(target: str) -> Feed | ObjectFeed:
        if kind == "messages":
            return Feed(place.archive, Taker(), json_lines, tmp_path / "cursor", target=target)
        return ObjectFeed(place.archive, Shelf(), "", tmp_path / "cursor", 60, target=target)

    first = made("topic a")
    assert first.finish() == 16
    with pytest.raises(ExportTargetChanged, match="is of another target"):
        made("topic b")
    assert made("topic a").finish() == 0


def test_a_collector_at_another_address_is_another_one(tmp_path: Path) -> None:
    """Its certificate is of that address; what is before the position would be missing there."""
    place, pem = Desk(tmp_path), certificate(tmp_path)
    place.receive(0, 6)

    def made(tls: str) -> Outlet:
        return outlets(tls=tls, authority=pem)(place.archive, tmp_path)[1]

    made("127.0.0.1:6514").close()
    made("127.0.0.1:6515").close()
    with pytest.raises(ExportTargetChanged) as said:
        made("127.0.0.2:6514")
    assert (said.value.found, said.value.wanted) == ("now collector 127.0.0.2", "collector 127.0.0.1")
