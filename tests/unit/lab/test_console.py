"""The console is shown as it was printed, and followed until the node is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.lab import console
from appliance.lab.console import follow_console, read_console
from appliance.lab.places import Places, claim_folder, node_folder, write_state
from appliance.lab.plan import Lab

TEXT = "Loading\r\nlogin: \x1b[6n\nlast\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(tmp_path / "labs", tmp_path / "cache")
    places.labs.mkdir()
    folder = claim_folder(places, "ward")
    write_state(folder, Lab("ward", 7, 1, "0123456789", (4, 5), Path("/r"), machine=True))
    home = node_folder(folder, "ward-01")
    home.mkdir(parents=True)
    (home / "console.log").write_text(TEXT, newline="")
    return places


def test_all_of_it_or_the_last_lines(places: Places) -> None:
    assert read_console(places, "ward").splitlines() == TEXT.splitlines()
    assert read_console(places, "ward-01", lines=1) == "last\n"


def test_it_is_followed_until_the_node_is_off_and_nothing_is_missed(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node_folder(places.folder("ward"), "ward-01") / "console.log"
    states = iter([True, False, False])

    def is_running(*_: object) -> bool:
        running = next(states)
        with path.open("a") as log:
            log.write(
                "more\n" if running else "Power down\n" if not path.read_text().endswith("down\n") else ""
            )
        return running

    monkeypatch.setattr(console.machines, "is_running", is_running)
    assert "".join(follow_console(places, "ward", lines=1)) == "last\nmore\nPower down\n"
