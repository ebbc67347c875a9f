"""Which permits for drives count on a node: signatures, roots, revocations, times of both sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    ApplianceError,
    FileUnexpected,
    JournalLost,
    KeyRevoked,
    PermitRefused,
    RollbackRefused,
    SignerUnknown,
    StatementInvalid,
    ThresholdNotMet,
    Usage,
)
from appliance.node.drive_permit import SignedPermit, admit_drive_permit
from appliance.trust.founding import compose
from appliance.trust.journal import Journal, KnownRoot
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import root_bytes
from appliance.trust.statements import (
    NOTHING_LOST,
    DrivePermit,
    Time,
    role_for,
    statement_bytes,
    statement_name,
)
from tests.unit.node.test_journal import HERE, Home
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root
    from appliance.trust.statements import Statement

ALICE, BOB, SITE, MALLORY = map(Person, ("alice", "bob", "site", "mallory"))
FOUNDERS = [each for one in (ALICE, BOB) for each in one.enrolled("root", "release", "revoke", "time")]
ROOT = compose([*FOUNDERS, *SITE.enrolled("site")])
WITHOUT_SITE = compose(FOUNDERS, {"release": 2})
PERMIT = DrivePermit(
    "here", "enroll", {"S1": NOTHING_LOST}, "2026-03-01T12:00:00Z", "1" * 64, "ticket 4711"
)
#: 2026-03-01T12:00:00Z
NOON = 1772366400.0
#: What the clock of the machine that runs this test has passed already, or will not for long.
PAST, FUTURE = "2001-01-01T00:00:00Z", "2400-01-01T00:00:00Z"


@dataclass
class Station:
    """A folder of documents, and the node that is this machine."""

    folder: Path
    home: Home

    def write(self, document: Statement | Revocation, *people: Person, root: Root = ROOT) -> Path:
        if isinstance(document, Revocation):
            name, data, role = f"revoked.{document.serial}.json", revocation_bytes(document), "revoke"
        else:
            name, data = statement_name(document), statement_bytes(document)
            role = role_for(document, root)
        path = self.folder / name
        path.write_bytes(data)
        for one in people:
            stem = name.removesuffix(".json")
            (self.folder / f"{stem}.{one.name}.{one.key.keyid[:8]}.sig").write_bytes(one.sign(data, role))
        return path

    def admit(self, path: Path, root: Root = ROOT, *revoked: Path, time: float = NOON) -> SignedPermit:
        return admit_drive_permit(
            *(HERE, path), root=root_bytes(root), revoked=revoked, time=time, place=self.home.place
        )

    def refused(self, kind: type[ApplianceError], path: Path, *more: Any, **changed: Any) -> ApplianceError:
        with pytest.raises(kind) as raised:
            self.admit(path, *more, **changed)
        assert type(raised.value) is kind
        return raised.value


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "node").mkdir()
    (tmp_path / "documents").mkdir()
    return Station(tmp_path / "documents", Home(tmp_path / "node"))


LASTING = replace(PERMIT, until=FUTURE)


def test_a_permit_that_enough_people_signed(station: Station) -> None:
    signed = station.admit(station.write(LASTING, SITE))
    assert (signed.permit, signed.holders) == (LASTING, ("site",))
    assert signed.text == f"by permit {'1' * 16} of site: ticket 4711"
    assert not (station.home.path / "journal").exists(), "a node's journal begins with an installation"


def test_without_the_role_site_release_permits(station: Station) -> None:
    path = station.write(LASTING, ALICE, root=WITHOUT_SITE)
    assert "1 for root 1" in str(station.refused(ThresholdNotMet, path, WITHOUT_SITE).found)
    station.write(LASTING, BOB, root=WITHOUT_SITE)
    assert station.admit(path, WITHOUT_SITE).holders == ("alice", "bob")


def test_who_may_not_sign_it(station: Station) -> None:
    station.refused(ThresholdNotMet, station.write(LASTING))
    station.refused(SignerUnknown, station.write(LASTING, MALLORY))


def test_who_releases_permits_nothing_where_there_is_a_site(station: Station) -> None:
    path = station.write(LASTING, ALICE, BOB, root=WITHOUT_SITE)
    with pytest.raises(ApplianceError) as raised:
        station.admit(path)
    assert raised.value.exit_code == 4


def test_a_permit_that_was_changed_afterwards(station: Station) -> None:
    path = station.write(LASTING, SITE)
    path.write_bytes(path.read_bytes().replace(b'"S1"', b'"S2"'))
    with pytest.raises(ApplianceError) as raised:
        station.admit(path)
    assert raised.value.exit_code == 4


def test_another_document(station: Station) -> None:
    time = Time("here", "5" * 32, "1" * 64, "2026-01-31T12:00:00Z")
    station.refused(StatementInvalid, station.write(time, ALICE))
    link = station.folder / "drive-permit.0.json"
    link.symlink_to(station.write(LASTING, SITE))
    station.refused(FileUnexpected, link)
    station.refused(Usage, station.folder / "drive-permit.1.json")


def test_a_permit_for_another_node(station: Station) -> None:
    station.refused(PermitRefused, station.write(replace(LASTING, node="there"), SITE))


def test_a_permit_past_its_date_by_any_clock(station: Station) -> None:
    """The node's is this machine's; a station that has lost its time makes nothing last."""
    late = station.refused(PermitRefused, station.write(replace(PERMIT, until=PAST), SITE), time=0.0)
    assert "the clock of here says" in str(late.found)
    path = station.write(LASTING, SITE)
    assert "this station's clock says" in str(station.refused(PermitRefused, path, time=2e10).found)
    station.refused(PermitRefused, path, time=1e300)


# --- what the node's journal knows ----------------------------------------------------------------------


def journal(root: Root = ROOT, **changed: Any) -> Journal:
    known = KnownRoot(root.version, hashlib.sha256(root_bytes(root)).hexdigest())
    return replace(Journal("5" * 32, known), **changed)


def test_a_node_that_knows_the_same(station: Station) -> None:
    station.home.commit(journal())
    assert station.admit(station.write(LASTING, SITE)).holders == ("site",)
    assert station.home.read().journal == journal(), "nothing is written there"


def test_a_node_that_knows_a_later_time(station: Station) -> None:
    station.home.commit(journal(floor="2500-01-01T00:00:00Z"))
    error = station.refused(PermitRefused, station.write(LASTING, SITE))
    assert error.found == f"good until {FUTURE}; the journal of here says 2500-01-01T00:00:00Z"


@pytest.mark.parametrize("version", [1, 2])
def test_a_node_that_knows_another_root(station: Station, version: int) -> None:
    station.home.commit(Journal("5" * 32, KnownRoot(version, "a" * 64)))
    station.refused(RollbackRefused, station.write(LASTING, SITE))


def test_a_node_that_knows_of_a_stolen_key(station: Station) -> None:
    station.home.commit(journal(revocation=Revocation(1, (SITE.key.keyid,))))
    station.refused(KeyRevoked, station.write(LASTING, SITE))


def test_a_station_that_knows_of_a_stolen_key(station: Station) -> None:
    path = station.write(LASTING, SITE)
    revoked = station.write(Revocation(1, (SITE.key.keyid,)), ALICE, BOB)
    station.refused(KeyRevoked, path, ROOT, revoked)


def test_a_revocation_that_does_not_count(station: Station) -> None:
    revoked = station.write(Revocation(1, (SITE.key.keyid,)), ALICE)
    station.refused(ThresholdNotMet, station.write(LASTING, SITE), ROOT, revoked)


def test_a_node_that_lost_its_journal(station: Station) -> None:
    station.home.commit(journal())
    for slot in station.home.folder.glob("[ab]"):
        slot.write_bytes(b"")
    station.refused(JournalLost, station.write(LASTING, SITE))
