"""The transcript of a ceremony, its human channel, and its rehearsal, from the command line."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Ceremony, Outcome


@pytest.fixture
def log(ceremony: Ceremony) -> Path:
    """A ceremony that was written down, and closed by carol: rotate, sign twice, assemble."""
    log = ceremony.folder / "log.jsonl"
    written = ("--transcript", log)
    ceremony.run("transcript", "note", log, "--text", "Bern, room 4, three present")
    draft = ceremony.folder / "draft/root.2.json"
    new = f"alice={ceremony.public('mallory')}"
    alice, bob, carol, mallory = map(ceremony.holders.key, ("alice", "bob", "carol", "mallory"))
    root = ("--root", ceremony.root)
    ceremony.run(
        "rotate", ceremony.root, "--holder", new, "--out", draft.parent, *written, "--transcript-key", alice
    )
    for key in (alice, bob, mallory):
        ceremony.run("sign", draft, "--key", key, *root, *written)
    ceremony.run("assemble", draft, *root, "--out", ceremony.trust, *written)
    ceremony.run("transcript", "close", log, "--key", carol, "--holder", "carol", "--text", "14:30")
    return log


def roots(ceremony: Ceremony) -> list[object]:
    return ["--root", ceremony.root, "--root", ceremony.trust / "root.2.json"]


def test_a_ceremony_is_written_down(ceremony: Ceremony, log: Path) -> None:
    values = ceremony.run("transcript", "verify", log, *roots(ceremony))
    assert [line["command"] for line in values["lines"]] == [
        "note", "rotate", "sign", "sign", "sign", "assemble", "close",
    ]  # fmt: skip
    assert [line["holder"] for line in values["lines"]][2:5] == ["alice", "bob", "alice"]
    assert (values["closed_by"], values["keys_judged"]) == (["carol"], True)
    assert values["lines"][1]["key_holder"] == "alice", "nobody said who proposed, but a root knows the key"
    made = {each["name"]: each["sha256"] for each in values["lines"][5]["out"]}
    assert set(made) == {path.name for path in ceremony.trust.glob("root.2*")}
    text = ceremony.appliance("trust", "transcript", "verify", log).out
    assert "Bern, room 4, three present" in text
    assert "not judged: name the roots" in text
    assert re.search(r"fingerprint  [0-9a-f]{64}", text)


def test_what_was_altered_is_found(ceremony: Ceremony, log: Path) -> None:
    good = log.read_text()
    lines = good.splitlines(keepends=True)
    for spoilt in (
        good.replace("three present", "four present"),
        "".join(lines[:-1]),
        "".join(lines[1:]),
        "".join([*lines[:3], lines[4], lines[3], *lines[5:]]),
    ):
        log.write_text(spoilt)
        assert ceremony.fails("transcript", "verify", log, *roots(ceremony)) == (4, "TranscriptInvalid")
    log.write_text("".join(lines[:-1]))
    assert ceremony.run("transcript", "verify", log, "--open", *roots(ceremony))["closed_by"] == []
    ceremony.fails("transcript", "verify", log, "--open", "--root", ceremony.folder / "nothing")


def test_a_broken_or_closed_transcript_stops_the_ceremony_first(ceremony: Ceremony, log: Path) -> None:
    draft = ceremony.folder / "other"
    propose = ("propose", ceremony.root, "--remove", "carol", "--out", draft, "--transcript", log)
    assert ceremony.fails(*propose) == (4, "TranscriptInvalid")
    assert not draft.exists(), "closed: nothing was done that could not be written down"
    log.write_text(log.read_text().replace("three", "four"))
    assert ceremony.fails(*propose) == (4, "TranscriptInvalid")
    assert not draft.exists()


def test_several_people_close(ceremony: Ceremony, log: Path) -> None:
    bob = ceremony.holders.key("bob")
    values = ceremony.run("transcript", "close", log, "--key", bob, "--holder", "bob")
    assert values["closed_by"] == ["carol", "bob"]
    told = ceremony.fails("transcript", "note", log, "--text", "and another thing")
    assert told == (4, "TranscriptInvalid")


def test_transcripts_that_make_no_sense(ceremony: Ceremony) -> None:
    nothing = ceremony.folder / "nothing.jsonl"
    alice = ("--key", ceremony.holders.key("alice"))
    ceremony.run("keygen", "--ml-dsa-87", ceremony.folder / "ml", "--no-passphrase")
    for wrong in (
        ("close", nothing, *alice),
        ("verify", nothing),
        ("note", nothing, "--text", "a\nb"),
        ("note", nothing, "--text", ""),
        ("note", nothing, "--text", "x" * 5000),
        ("note", nothing, "--text", "x", "--holder", "Not A Name"),
        ("note", nothing, "--text", "x", "--key", ceremony.folder / "ml"),
        ("note", nothing, "--text", "x", "--key", ceremony.folder / "no-key"),
    ):
        assert ceremony.fails("transcript", *wrong) == (2, "Usage"), wrong
    assert not nothing.exists()


@pytest.fixture
def permit(ceremony: Ceremony) -> Path:
    from pathlib import Path

    values = ceremony.run(
        "permit", "--node", "gpu-01", "--journal", "cd" * 16, "--product", "demo", "--reason", "fails",
        "--from", f"8:{'2' * 64}", "--to", f"7:{'1' * 64}", "--out", ceremony.folder,
    )  # fmt: skip
    ceremony.sign(Path(values["path"]), "alice", root=ceremony.root)
    return Path(values["path"])


def test_a_document_and_its_signature_are_typed(
    ceremony: Ceremony, permit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ceremony.folder / "typed"
    for file in (permit, next(ceremony.folder.glob("permit.*.sig"))):
        shown = ceremony.appliance("trust", "show", file).out
        monkeypatch.setattr(sys, "stdin", io.StringIO(shown.lower()))
        ceremony.run("read", "-", "--out", out)
        assert (out / file.name).read_bytes() == file.read_bytes()
    (out / permit.name).write_bytes(b"{}")
    typed = ceremony.folder / "typed.txt"
    typed.write_text(ceremony.appliance("trust", "show", permit).out)
    assert ceremony.fails("read", typed, "--out", out) == (2, "Usage")


def test_the_wrong_line_is_named(ceremony: Ceremony, permit: Path) -> None:
    typed = ceremony.folder / "typed.txt"
    lines = ceremony.appliance("trust", "show", permit).out.splitlines()
    lines[5] = lines[5].translate(str.maketrans("ABCDEFGH", "BCDEFGHA"))
    typed.write_text("\n".join([*lines[:9], *lines[10:]]))
    done = ceremony.appliance("trust", "read", typed, "--out", ceremony.folder / "x", "--json")
    assert (done.code, done.json["error"]) == (4, "TranscriptionFailed")
    assert done.json["found"] == "wrong: 5; missing: 9"
    assert not (ceremony.folder / "x").exists()


def test_pictures_are_scanned_by_another_program(ceremony: Ceremony) -> None:
    """What segno drew is read by zbarimg, in any order."""
    document = ceremony.root
    pictures = ceremony.folder / "pictures"
    written = ceremony.run("show", document, "--png", pictures, "--svg", pictures)["written"]
    assert len(written) >= 4, "more than one code, in both kinds"
    assert (pictures / f"{document.name}.2-of-{len(written) // 2}.svg").is_file()
    assert shutil.which("zbarimg"), "zbar-tools is in system-packages.txt"
    scanned = ceremony.folder / "scanned.txt"
    only_qr = ["-Sdisable", "-Sqrcode.enable"]  # else it reads a bar code into a QR code, rarely
    for options in (["--quiet", *only_qr], ["--quiet", "--raw", *only_qr]):
        files = sorted(map(str, pictures.glob("*.png")), reverse=True)
        done = subprocess.run(["zbarimg", *options, *files], capture_output=True, check=True)
        scanned.write_bytes(done.stdout)
        out = ceremony.folder / f"scanned{len(options)}"
        ceremony.run("read", scanned, "--out", out)
        assert (out / document.name).read_bytes() == document.read_bytes()


def test_codes_fit_a_terminal(ceremony: Ceremony, permit: Path) -> None:
    text = ceremony.appliance("trust", "show", permit, "--qr").out
    assert f"{permit.name}: 2 of " in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80


def test_what_cannot_be_shown(ceremony: Ceremony, bundle: Path) -> None:
    large = ceremony.folder / "large"
    large.write_bytes(bytes(20_000))
    assert ceremony.fails("show", large) == (4, "BundleMalformed")
    assert ceremony.fails("show", bundle / "trust/SHA256SUMS") == (2, "Usage")
    assert ceremony.fails("show", ceremony.folder / "nothing") == (2, "Usage")


def test_the_drill(appliance: Callable[..., Outcome], tmp_path: Path) -> None:
    done = appliance("trust", "drill", "--keep", tmp_path / "kept", "--json")
    assert done.code == 0
    assert [step["name"] for step in done.json["steps"]] == [
        "found", "release", "lose", "too few", "rotate",
        "steal", "revoke", "follow", "lost for good", "write down",
    ]  # fmt: skip
    assert all(step["proves"] for step in done.json["steps"])
    newest = tmp_path / "kept/trust/root.3.json"
    seen = appliance("trust", "inspect", newest, "--root", tmp_path / "kept/trust/root.2.json").out
    assert "by root 2: 3 of 3 needed (enough)" in seen
    again = appliance("trust", "drill", "--keep", tmp_path / "kept")
    assert again.code == 2


def test_a_ceremony_opens_no_network_socket(tmp_path: Path) -> None:
    """The drill does all of it: keys, roots, signatures, revocation, transcript."""
    log = tmp_path / "strace"
    command = ["strace", "-f", "-e", "trace=network", "-o", str(log), sys.executable, "-c"]
    command += ["from appliance.cli.app import main; main()", "trust", "drill"]
    subprocess.run(command, check=True, capture_output=True)
    assert log.read_text().rstrip().endswith("+++ exited with 0 +++")
    assert "INET" not in log.read_text()


def test_a_drill_that_fails_says_so(
    appliance: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What must be refused and is not, ends it: here nothing is ever too few."""
    monkeypatch.setattr("appliance.trust.standing.Standing.require", lambda *_: None)
    done = appliance("trust", "drill", "--json")
    assert (done.code, done.json["error"]) == (4, "DrillFailed")
