"""``appliance patch build`` and ``patch join`` as a person runs them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import Base
from appliance.bundle.opening import open_tree
from appliance.bundle.patch.holdings import open_bundle, whole_files
from appliance.bundle.paths import LIST_PATH
from tests.conftest import BundleMaker
from tests.unit.bundle.patch.conftest import Station, files_of, new_contents, old_contents
from tests.unit.cli.inventories import SignedBy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders
    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]


class Desk:
    """Two bundles, the trusted root's file, and the program."""

    def __init__(self, station: Station, run: Run) -> None:
        self.station, self.run = station, run
        self.old = station.bundle("old", old_contents(), sequence=1)
        self.new = station.bundle("new", new_contents(), sequence=2)
        self.root = station.folder / "root.json"
        self.root.write_bytes(station.root_data)
        self.out = station.folder / "patch"

    def build(self, *options: object, source: Path | None = None) -> Outcome:
        return self.run(
            "patch", "build", "--from", source or self.old, "--to", self.new, "-o", self.out, *options
        )

    def sign(self) -> None:
        for name in ("carol", "mallory"):
            key = self.station.maker.holders.key(name)
            assert self.run("sign", self.out, "--key", key, "--role", "patch").code == 0

    def join(self, out: str = "joined", *options: object) -> Outcome:
        where = self.station.folder / out
        options = ("--trust", self.root, *options)
        return self.run("patch", "join", "--base", self.old, "--patch", self.out, "-o", where, *options)

    def holds(self) -> dict[str, str]:
        """What a node holds of the old bundle, as it says it: the files that the list names."""
        with open_tree(self.old) as tree:
            bundle = open_bundle(tree)
            beside = bundle.unlisted
            return {path: each.sha256 for path, each in whole_files(bundle).items() if path not in beside}

    def inventory(self, site: SignedBy, name: str = "gpu-01.inventory.json", **changes: object) -> Path:
        """What a node says that holds the old bundle."""
        holds, digest = self.holds(), hash_of(self.old)
        copy = {"bundle": digest, "complete": True, "files": len(holds), "hashed": 0, "wrong": {}}
        running = {"bundle": digest, "product": "demo", "version": "1.0.1", "sequence": 1}
        values = {"installed": running, "copies": [copy | {"holds": holds} | changes]}
        return site.write(self.station.folder / name, **values)


def hash_of(bundle: Path) -> str:
    return hashlib.sha256((bundle / LIST_PATH).read_bytes()).hexdigest()


@pytest.fixture
def desk(tmp_path: Path, holders: Holders, patch_root: Root, appliance: Run) -> Desk:
    return Desk(Station(BundleMaker(tmp_path, holders), patch_root), appliance)


@pytest.fixture
def site(tmp_path: Path) -> SignedBy:
    return SignedBy(tmp_path)


def test_a_patch_is_built_signed_verified_and_joined(desk: Desk) -> None:
    done = desk.build("--parity", 5)
    assert done.code == 0
    assert "payload/engine/a-1.1.whl (nothing in common with" not in done.out
    for said in ("a-1.1.whl (new)", "packed against it", "files that are there", "% saved", "sequence 1"):
        assert said in done.out
    desk.sign()
    done = desk.run("verify", desk.out, "--trust", desk.root, "--role", "patch")
    assert (done.code, "demo 1.0.2" in done.out) == (0, True)
    assert desk.run("verify", desk.out, "--trust", desk.root).code == 4
    done = desk.run("inspect", desk.out, "--files")
    assert done.code == 0
    assert "payload/patch/recipe" in done.out
    assert "needed       2 of carol, mallory as patch, says the root in the bundle" in done.out
    done = desk.run("inspect", desk.out, "--trust", desk.root, "--role", "patch")
    assert (done.code, done.out.splitlines()[0]) == (0, "verified")
    assert "needed       2 of carol, mallory as patch\n" in done.out
    done = desk.run("inspect", desk.out, "--trust", desk.root)
    assert (done.code, "another role" in done.err) == (4, True)
    done = desk.join()
    assert done.code == 0
    assert "signed as release by alice, bob" in done.out
    assert files_of(desk.station.folder / "joined") == files_of(desk.new)
    assert desk.run("verify", desk.station.folder / "joined", "--trust", desk.root).code == 0


def test_statements_about_a_patch_name_what_it_leads_to(desk: Desk, tmp_path: Path) -> None:
    """That is what the journal of a node is asked about: nobody ever has the patch itself installed."""
    makes = desk.build("--json").json["to"]["bundle"]
    admit = ("trust", "admit", desk.out, "--node", "gpu-01", "--trust", desk.root, "--json")
    assert desk.run(*admit, "--out", tmp_path / "early").code == 4, "it is not signed yet"
    desk.sign()
    values = desk.run(*admit, "--out", tmp_path / "s").json
    assert (values["document"]["bundle"], values["document"]["sequence"]) == (makes, 2)
    assert values["notes"] == [
        "verified: signed by carol, mallory",
        "what the patch leads to, not the patch, is admitted",
    ]
    node = ("--node", "gpu-01", "--journal", "5" * 32, "--reason", "so", "--out", tmp_path / "s", "--json")
    values = desk.run("trust", "waive", "--bundle", desk.out, *node).json
    assert values["document"]["bundle"] == makes
    values = desk.run("trust", "permit", "--from", desk.out, "--to", desk.old, *node).json
    assert values["document"]["from"] == {"digest": makes, "sequence": 2}
    values = desk.run("trust", "revoke", "--root", desk.root, "--bundle", desk.out, *node[6:]).json
    assert values["document"]["bundles"] == [hash_of(desk.out)], "what is taken back is what was named"


def test_what_is_saved_is_not_rounded_up(desk: Desk) -> None:
    from appliance.bundle.patch.result import BuiltPatch, Entry
    from appliance.cli.patch_build import patch_text

    entry = Entry("payload/a", 1_000_000, 1, "made", "so")
    built = BuiltPatch(desk.out, "1" * 64, 1, Base("2" * 64, "1", 1), "3" * 64, "2", [entry])
    assert "99.9% saved" in patch_text(built)


def test_a_patch_is_shown_against_its_base_each_by_its_own_role(desk: Desk, tmp_path: Path) -> None:
    desk.build()
    desk.sign()
    page = tmp_path / "review.html"
    trust = ("--trust", desk.root, "--role", "patch")
    done = desk.run("inspect", desk.out, "--against", desk.old, *trust, "--html", page, "--json")
    assert (done.code, done.json["root"]["role"], done.json["root"]["holders"]) == (
        0,
        "patch",
        ["carol", "mallory"],
    )
    assert "2 of carol, mallory, as patch" in page.read_text()


def test_a_patch_is_no_base(desk: Desk) -> None:
    desk.build()
    patch, desk.out = desk.out, desk.out.with_name("again")
    done = desk.build(source=patch)
    assert (done.code, "what the patch should start from is a patch itself" in done.err) == (5, True)
    assert not desk.out.exists()


def test_a_bundle_that_was_taken_back_is_not_joined(desk: Desk) -> None:
    makes = desk.build("--json").json["to"]["bundle"]
    desk.sign()
    taken = desk.station.revocation_files(desk.station.revoking(makes))
    for path, data in taken.items():
        (desk.station.folder / path.removeprefix("trust/")).write_bytes(data)
    done = desk.join("joined", "--revoked", desk.station.folder / "revoked.1.json")
    assert (done.code, "was taken back by its makers" in done.err) == (4, True)
    assert not (desk.station.folder / "joined").exists()
    assert desk.join("nosuch/joined").code == 2
    assert desk.join().code == 0


def test_a_patch_is_carried_on_media(desk: Desk) -> None:
    desk.build()
    desk.sign()
    medium = desk.station.folder / "medium"
    medium.mkdir()
    trust = ("--trust", desk.root, "--role", "patch")
    done = desk.run("media", "write", desk.out, medium, "--size", "64MB", *trust)
    assert done.code == 0
    assert desk.run("media", "check", medium, *trust).code == 0
    assert desk.run("media", "join", medium, "--out", desk.station.folder / "carried", *trust).code == 0
    desk.out = desk.station.folder / "carried"
    assert desk.join().code == 0


def test_programs_are_told_of_every_file(desk: Desk) -> None:
    values = desk.build("--json").json
    how = {file["path"]: file["how"] for file in values["files"]}
    assert how.keys() == files_of(desk.new).keys()
    assert how["payload/model/tiny.gguf"] == "made"
    assert values["from"]["sequence"] == 1
    assert values["to"]["bundle"] == hash_of(desk.new)
    assert values["size"] == sum(len(data) for data in files_of(desk.out).values())
    desk.sign()
    assert desk.join("joined", "--json").json["release"] is True


def test_a_bundle_without_release_signatures_rests_on_the_patch(desk: Desk) -> None:
    for name in ("alice", "bob"):
        (desk.new / f"trust/SHA256SUMS.{name}.sig").unlink()
    assert desk.build().code == 0
    desk.sign()
    done = desk.join()
    assert (done.code, "vouched for by the patch alone" in done.out) == (0, True)


def test_a_nodes_inventory_is_a_base_as_its_bundle_is(desk: Desk, site: SignedBy) -> None:
    def travels(built: Outcome) -> dict[str, int]:
        """But for what lies beside the list, which a node does not speak of."""
        files = {file["path"]: file["carried"] for file in built.json["files"]}
        return {path: size for path, size in files.items() if path == LIST_PATH or "trust/" not in path}

    whole = desk.build("--json")
    inventory = desk.inventory(site)
    desk.out = desk.station.folder / "patch-2"
    done = desk.build("--base", desk.old, "-i", site.folder, "--json", source=inventory)
    assert (done.code, travels(done)) == (0, travels(whole))
    assert "nobody checked" not in done.err


def test_old_bytes_are_taken_from_the_store(desk: Desk, site: SignedBy) -> None:
    done = desk.build("--store", desk.station.folder / "store", "--json", source=desk.inventory(site))
    assert "nobody checked that gpu-01 signed this inventory" in done.err
    how = {file["path"]: file for file in done.json["files"]}
    assert how["payload/model/tokens.json"]["carried"] < 300
    desk.sign()
    assert desk.join().code == 0


def test_without_old_bytes_whole_files_are_saved(desk: Desk, site: SignedBy) -> None:
    how = {file["path"]: file for file in desk.build("--json", source=desk.inventory(site)).json["files"]}
    assert how["payload/engine/b-1.0.whl"]["how"] == "held"
    assert how["payload/model/tiny.gguf"]["how"] == "whole"


def test_the_short_form_needs_the_bundle(desk: Desk, site: SignedBy) -> None:
    with open_tree(desk.old) as tree:
        bundle = open_bundle(tree)
    copy = {"bundle": bundle.digest, "complete": True, "files": 9, "hashed": 0, "wrong": 0}
    running = {"bundle": bundle.digest, "product": "demo", "version": "1.0.1", "sequence": 1}
    short = site.write(desk.station.folder / "short", installed=running, copies=[copy])
    assert desk.build(source=short).code == 5
    assert desk.build("--base", desk.old, source=short).code == 0
    desk.out = desk.out.with_name("again")
    wrong = site.write(desk.station.folder / "wrong", installed=running, copies=[copy | {"wrong": 1}])
    done = desk.build("--base", desk.old, source=wrong)
    assert (done.code, "does not say which files it holds" in done.err) == (5, True)


def test_what_a_node_lacks_travels(desk: Desk, site: SignedBy) -> None:
    held = desk.holds()
    lost = "payload/engine/b-1.0.whl"
    del held[lost]
    inventory = desk.inventory(site, holds=held, wrong={lost: "not there"})
    how = {
        file["path"]: file
        for file in desk.build("--base", desk.old, "--json", source=inventory).json["files"]
    }
    assert how[lost]["how"] == "whole"


def test_other_bundles_and_other_nodes_are_refused(desk: Desk, site: SignedBy) -> None:
    inventory = desk.inventory(site)
    done = desk.build("--base", desk.new, source=inventory)
    assert (done.code, "another bundle than the one named" in done.err) == (5, True)
    nothing = site.write(desk.station.folder / "nothing", copies=[])
    done = desk.build(source=nothing)
    assert (done.code, "no bundle that a patch could start from" in done.err) == (5, True)
    running = {"bundle": hash_of(desk.old), "product": "demo", "version": "1.0.1", "sequence": 3}
    renamed = desk.inventory(site, "renamed")
    values = json.loads(renamed.read_bytes())
    renamed = site.write(renamed, **{**values, "installed": running})
    done = desk.build("--base", desk.old, source=renamed)
    assert (done.code, "calls its bundle otherwise" in done.err) == (5, True)
    inventory.write_bytes(inventory.read_bytes().replace(b'"serving":"active"', b'"serving":"failed"'))
    done = desk.build("-i", site.folder, source=inventory)
    assert (done.code, "not signed with the node's pinned host key" in done.err) == (4, True)
    assert desk.build("--from", inventory, source=inventory).code == 2
    for option in (("--base", desk.old), ("-i", site.folder)):
        done = desk.build(*option)
        assert (done.code, "only a node's inventory is read together with" in done.err) == (2, True)
