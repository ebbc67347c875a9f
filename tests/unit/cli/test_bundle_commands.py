"""sign, verify, inspect and trust as a person runs them."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.signing_keys import open_key
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.dsse import Envelope, envelope_bytes, parse_envelope, pre_authentication_encoding
from appliance.trust.root import parse_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders
    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

PROGRAM = [sys.executable, "-c", "from appliance.cli.app import main; main()"]


def test_verify_says_what_was_verified(appliance: Run, bundle: Path, root_file: Path) -> None:
    done = appliance("verify", bundle, "--trust", root_file)
    assert done.code == 0
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    digest = hashlib.sha256(listing).hexdigest()
    fingerprint = hashlib.sha256(root_file.read_bytes()).hexdigest()
    for expected in ("demo 1.0.0", digest, "alice, bob", "9 files", fingerprint):
        assert expected in done.out
    assert "9 of 9" in done.err
    values = appliance("verify", bundle, "--trust", root_file, "--json").json
    assert values["verified"] is True
    assert (values["product"], values["version"], values["sequence"]) == ("demo", "1.0.0", 7)
    assert (values["digest"], values["files"]) == (digest, 9)
    assert values["bytes"] == sum(
        (bundle / line[66:].decode()).stat().st_size for line in listing.splitlines()
    )
    assert [signer["holder"] for signer in values["signers"]] == ["alice", "bob"]
    assert values["root"] == {"version": 1, "fingerprint": fingerprint, "solo": False}


def test_a_damaged_bundle_is_mended_or_brought_again(appliance: Run, bundle: Path, root_file: Path) -> None:
    """It may lie on its medium: that is not where a better copy is."""
    (bundle / "payload/model/tiny.gguf").write_bytes(bytes(4000))
    done = appliance("verify", bundle, "--trust", root_file)
    assert "do: `appliance media repair` mends it" in done.err
    (bundle / "payload/model/tiny.gguf").unlink()
    done = appliance("verify", bundle, "--trust", root_file)
    assert f"error: missing in {bundle}: 1 listed file\n" in done.err
    assert "do: `appliance media repair` mends it" in done.err


def test_a_solo_root_is_said(appliance: Run, maker: BundleMaker, holders: Holders) -> None:
    root = holders.root("alice", solo=True)
    bundle = maker.sign(maker.write("solo", root), "alice")
    done = appliance("verify", bundle, "--trust", bundle / "trust/root.1.json")
    assert "one person alone" in done.out


def test_the_typed_fingerprint_must_match(appliance: Run, bundle: Path, root_file: Path) -> None:
    right = hashlib.sha256(root_file.read_bytes()).hexdigest()
    grouped = ":".join(right[start : start + 4] for start in range(0, 64, 4)).upper()
    for typed in (right, grouped):
        assert appliance("verify", bundle, "--trust", root_file, "--fingerprint", typed).code == 0
    wrong = appliance("verify", bundle, "--trust", root_file, "--fingerprint", "0" * 64, "--json")
    assert (wrong.code, wrong.json["error"]) == (4, "RootInvalid")
    misspelled = appliance("verify", bundle, "--trust", root_file, "--fingerprint", right[:-1])
    assert misspelled.code == 2


def test_a_random_flipped_byte_ends_with_4(appliance: Run, bundle: Path, root_file: Path) -> None:
    """The promise of the issue, through the program: every file, a random place."""
    dice = random.Random()  # noqa: S311 - not for secrets; a failure names the place
    for path in sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size):
        good = path.read_bytes()
        position = dice.randrange(len(good))
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        done = appliance("verify", bundle, "--trust", root_file)
        assert done.code == 4, (path, position)
        assert "verified" not in done.out
        path.write_bytes(good)
    assert appliance("verify", bundle, "--trust", root_file).code == 0


def test_errors_are_one_json_object(appliance: Run, bundle: Path, root_file: Path) -> None:
    (bundle / "payload/evil\x1b[2J").write_bytes(b"")
    done = appliance("verify", bundle, "--trust", root_file, "--json")
    assert (done.code, done.json["error"], done.json["exit_code"]) == (4, "FileUnexpected", 4)
    assert "\x1b" not in done.err


def test_wrong_command_lines(appliance: Run, bundle: Path, root_file: Path, tmp_path: Path) -> None:
    for arguments in (
        ("verify", bundle),
        ("verify", tmp_path / "nothing", "--trust", root_file),
        ("verify", bundle, "--trust", tmp_path / "nothing"),
        ("verify", bundle, "--trust", tmp_path),
        ("verify", bundle, "--trust", root_file, "--workers", "0"),
        ("sign", bundle),
        ("sign", bundle, "--key", tmp_path / "nothing"),
        ("inspect", tmp_path / "nothing"),
        ("inspect", bundle, "--fingerprint", "0" * 64),
        ("trust", "inspect", tmp_path / "nothing"),
        ("trust", "inspect", root_file, "--allowed-signers", "--json"),
    ):
        assert appliance(*arguments).code == 2, arguments


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_verify_works_from_a_medium_that_cannot_be_written(bundle: Path, root_file: Path) -> None:
    """Mounted read-only, in a mount namespace of its own."""
    script = """
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" && shift && exec "$@"
    """
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(bundle), *PROGRAM]
    done = subprocess.run([*command, "verify", str(bundle), "--trust", str(root_file)], check=False)
    assert done.returncode == 0


def test_sign_until_it_is_enough(
    appliance: Run, maker: BundleMaker, holders: Holders, root_file: Path
) -> None:
    bundle = maker.write("fresh", parse_root(root_file.read_bytes()))
    first = appliance("sign", bundle, "--key", holders.key("alice"))
    assert first.code == 0
    assert "1 of 2 needed (not enough yet): alice" in first.out
    assert appliance("verify", bundle, "--trust", root_file).code == 4
    second = appliance("sign", bundle, "--key", holders.key("bob"), "--json").json
    assert (second["holder"], second["signers"], second["threshold"]) == ("bob", ["alice", "bob"], 2)
    assert appliance("verify", bundle, "--trust", root_file).code == 0
    stranger = appliance("sign", bundle, "--key", holders.key("mallory"), "--json")
    assert (stranger.code, stranger.json["error"]) == (4, "SignerUnknown")


def test_inspect_never_says_verified_by_itself(appliance: Run, bundle: Path, root_file: Path) -> None:
    seen = appliance("inspect", bundle)
    assert seen.out.startswith("NOT VERIFIED")
    assert appliance("inspect", bundle, "--json").json["verified"] is False
    assert appliance("inspect", bundle, "--trust", root_file).out.startswith("verified\n")
    assert appliance("inspect", bundle, "--trust", root_file, "--json").json["verified"] is True
    (bundle / "payload/model/tiny.gguf").write_bytes(b"x" * 4000)
    assert appliance("inspect", bundle, "--trust", root_file).code == 4


def test_inspect_keeps_its_summary_short() -> None:
    from appliance.cli.inspection_text import most

    counts = {f"Licence-{number}": 1 for number in range(8)} | {"MIT": 5, "long " * 40: 9}
    lines = most("licence", counts, everything=False)
    assert [line.split()[1] for line in lines[1:3]] == ["MIT:", "Licence-0:"]
    assert max(map(len, lines)) < 100
    assert lines[-1] == "  licence    … and 4 more; --files shows them all"
    assert len(most("licence", counts, everything=True)) == len(counts)


def test_inspect_shows_where_everything_comes_from(appliance: Run, bundle: Path) -> None:
    text = appliance("inspect", bundle, "--files").out
    for expected in (
        "model (tiny-gguf): 1 package, 1 file, 4,000 bytes",
        "engine (python): 2 packages, 2 files, 17 bytes",
        "licence    CC0-1.0: 2",
        "payload/extras/site/notice.txt",
        "signature    alice, release@appliance, ssh-ed25519 SHA256:",
    ):
        assert expected in text
    values = appliance("inspect", bundle, "--files", "--json").json
    assert values["components"]["engine"]["bytes"] == 17
    assert values["components"]["engine"]["licences"] == {"CC0-1.0": 2}
    assert values["components"]["extras"]["contents"][0]["origin"] == {"kind": "file"}
    assert "contents" not in appliance("inspect", bundle, "--json").json["components"]["engine"]


def test_inspect_says_whose_signatures_are_needed(
    appliance: Run, bundle: Path, root_file: Path, maker: BundleMaker, holders: Holders
) -> None:
    asked = ("inspect", bundle, "--trust", root_file)
    assert "needed       2 of alice, bob, carol as release\n" in appliance(*asked).out
    values = appliance(*asked, "--json").json
    assert values["trusted"] == values["root"]
    assert (values["root"]["threshold"], values["root"]["solo"]) == (2, False)
    assert values["root"]["holders"] == ["alice", "bob", "carol"]
    unproven = appliance("inspect", bundle)
    assert "2 of alice, bob, carol as release, says the root in the bundle\n" in unproven.out
    assert appliance("inspect", bundle, "--json").json["trusted"] is None

    solo = holders.root("alice", solo=True)
    alone = maker.sign(maker.write("solo", solo), "alice")
    for arguments in ((), ("--trust", alone / "trust/root.1.json")):
        assert "one person alone can release" in appliance("inspect", alone, *arguments).out
        assert appliance("inspect", alone, *arguments, "--json").json["root"]["solo"] is True
    assert "one person" not in unproven.out


def test_inspect_writes_a_page(appliance: Run, bundle: Path, root_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "review.html"
    done = appliance("inspect", bundle, "--trust", root_file, "--html", page)
    assert done.code == 0
    assert "<h1>demo 1.0.0</h1>" in page.read_text()
    page.write_text("mine")
    again = appliance("inspect", bundle, "--html", page, "--json")
    assert (again.code, again.json["error"]) == (2, "Usage")
    assert page.read_text() == "mine"
    assert appliance("inspect", bundle, "--html", page, "--force").code == 0
    assert "NOT VERIFIED" in page.read_text()
    assert appliance("inspect", bundle, "--html", bundle / "page.html").code == 2
    assert appliance("verify", bundle, "--trust", root_file).code == 0


def test_inspect_shows_what_changed(
    appliance: Run, bundle: Path, maker: BundleMaker, root_file: Path
) -> None:
    lock = maker.lock().model_copy(update={"version": "0.9.0", "sequence": 6})
    old = maker.write("old", parse_root(root_file.read_bytes()), lock)
    text = appliance("inspect", bundle, "--against", old).out
    for expected in ("changes since demo 0.9.0", "NOT VERIFIED)", "direction  forward", "0.9.0 -> 1.0.0"):
        assert expected in text
    values = appliance("inspect", bundle, "--against", old, "--trust", root_file, "--json").json
    assert values["against"]["direction"] == "forward"
    assert values["against"]["old"]["signatures_verified"] is False
    maker.sign(old, "alice", "bob")
    signed = appliance("inspect", bundle, "--against", old, "--trust", root_file)
    assert "its signatures verified, its bytes not read" in signed.out


def test_inspect_shows_provenance(appliance: Run, bundle: Path, holders: Holders) -> None:
    assert (
        "provenance   alice, in-toto with SLSA provenance 1: as the manifest says"
        in appliance("inspect", bundle).out
    )
    assert appliance("inspect", bundle, "--json").json["signatures"][0]["provenance"] is True
    path = bundle / "trust/provenance.alice.dsse.json"
    said = b'{"other":1}'
    raw = open_key(holders.key("alice")).sign_raw(pre_authentication_encoding(said))
    assert raw
    path.write_bytes(envelope_bytes(Envelope(said, parse_envelope(path.read_bytes()).keyid, raw)))
    assert "alice, in-toto with SLSA provenance 1: CONTRADICTS" in appliance("inspect", bundle).out


def test_sign_states_provenance_unless_told_not_to(
    appliance: Run, maker: BundleMaker, holders: Holders, root_file: Path
) -> None:
    bundle = maker.write("fresh", parse_root(root_file.read_bytes()))
    stated = bundle / "trust/provenance.alice.dsse.json"
    done = appliance("sign", bundle, "--key", holders.key("alice"))
    assert f"origin  {stated}" in done.out
    assert stated.is_file()
    again = appliance("sign", bundle, "--key", holders.key("alice"), "--no-provenance", "--json")
    assert again.json["provenance"] is None
    assert not stated.exists()


def holder_options(holders: Holders, *names: str) -> list[str]:
    return [part for name in names for part in ("--holder", f"{name}={holders.folder / name}.pub")]


def test_trust_init_founds_a_root(
    appliance: Run, holders: Holders, tmp_path: Path, two_of_three: Root
) -> None:
    out = tmp_path / "new" / "trust"
    options = holder_options(holders, "alice", "bob", "carol")
    done = appliance("trust", "init", *options, "--out", out)
    assert done.code == 0
    root = parse_root((out / "root.1.json").read_bytes())
    assert root == two_of_three
    assert (out / "root.1.allowed_signers").read_text() == allowed_signers(root)
    signers_digest = hashlib.sha256((out / "root.1.allowed_signers").read_bytes()).hexdigest()
    assert root.fingerprint in done.out
    assert signers_digest in done.out
    again = appliance("trust", "init", *options, "--out", out)
    assert (again.code, parse_root((out / "root.1.json").read_bytes())) == (2, root)
    other = appliance(
        "trust", "init", *options, "--threshold", "root=3", "--out", tmp_path / "b", "--json"
    ).json
    assert other["thresholds"] == {"release": 2, "root": 3}


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "release=0"],
        ["--threshold", "release=4"],
        ["--threshold", "release=x"],
        ["--threshold", "release"],
        ["--threshold", "admin=2"],
        ["--threshold", "release=2", "--threshold", "release=3"],
        ["--threshold", "release=1"],
        ["--solo", "--threshold", "root=2", "--threshold", "release=2"],
        ["--holder", "dave"],
        ["--holder", "dave="],
        ["--holder", "dave=/nowhere.pub"],
    ],
    ids=" ".join,
)
def test_trust_init_refuses_nonsense(
    options: list[str], appliance: Run, holders: Holders, tmp_path: Path
) -> None:
    named = holder_options(holders, "alice", "bob", "carol")
    done = appliance("trust", "init", *named, *options, "--out", tmp_path / "trust")
    assert done.code == 2
    assert not (tmp_path / "trust").exists()


def test_trust_init_refuses_bad_keys(appliance: Run, holders: Holders, tmp_path: Path) -> None:
    out = tmp_path / "trust"
    alice = holder_options(holders, "alice")
    twice = appliance(
        "trust", "init", *alice, "--holder", f"alias={holders.folder / 'alice'}.pub", "--out", out
    )
    assert twice.code == 2
    private = appliance(
        "trust", "init", *alice, "--holder", f"bob={holders.folder / 'bob'}", "--out", out, "--json"
    )
    assert (private.code, private.json["error"]) == (4, "KeyRefused")
    assert "PRIVATE" not in private.json["message"]
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(tmp_path / "rsa")]
    subprocess.run(command, check=True)
    rsa = appliance("trust", "init", *alice, "--holder", f"bob={tmp_path / 'rsa'}.pub", "--out", out)
    assert rsa.code == 4
    assert not out.exists()


def test_one_person_alone_must_say_solo(appliance: Run, holders: Holders, tmp_path: Path) -> None:
    alice = holder_options(holders, "alice")
    assert appliance("trust", "init", *alice, "--out", tmp_path / "trust").code == 2
    done = appliance("trust", "init", *alice, "--solo", "--out", tmp_path / "trust", "--json")
    assert done.json["solo"] is True


def test_trust_inspect_shows_a_root(appliance: Run, root_file: Path, two_of_three: Root) -> None:
    text = appliance("trust", "inspect", root_file).out
    assert two_of_three.fingerprint in text
    assert "release      2 of 3: alice, bob, carol" in text
    values = appliance("trust", "inspect", root_file, "--json").json
    assert values["roles"]["root"] == {"threshold": 2, "holders": ["alice", "bob", "carol"]}
    signers = appliance("trust", "inspect", root_file, "--allowed-signers")
    assert signers.out == allowed_signers(two_of_three)
    assert values["allowed_signers_fingerprint"] == hashlib.sha256(signers.out.encode()).hexdigest()
    root_file.write_bytes(root_file.read_bytes() + b"\n")
    assert appliance("trust", "inspect", root_file).code == 4


@pytest.mark.parametrize(
    "command", [("sign",), ("verify",), ("inspect",), ("trust", "init"), ("trust", "inspect")]
)
def test_help_shows_examples(command: tuple[str, ...], appliance: Run) -> None:
    done = appliance(*command, "--help")
    assert done.code == 0
    assert f"appliance {' '.join(command)} " in done.out


def test_several_volumes_are_one_bundle(
    appliance: Run, bundle: Path, root_file: Path, volumes: Callable[..., list[Path]]
) -> None:
    folders = volumes(bundle, 2, 3)
    (folders[1] / "volume.json").unlink()
    note = f"{folders[1]} has no label: `appliance media repair` restores it if another volume is named too"
    done = appliance("verify", *(folder.parent for folder in folders), "--trust", root_file)
    assert done.code == 0
    assert all(str(folder) in done.out for folder in folders)
    assert f"note         {note}" in done.out
    values = appliance("verify", *folders, "--trust", root_file, "--json").json
    assert (values["folders"], values["notes"]) == ([str(folder) for folder in folders], [note])
    assert f"note         {note}" in appliance("inspect", *folders).out
    assert appliance("inspect", *folders, "--json").json["notes"] == [note]
    done = appliance("verify", *folders[:2], "--trust", root_file, "--json")
    assert (done.code, done.json["error"]) == (4, "VolumeMissing")
    assert "volume 3 of 3 is missing" in done.json["message"]
    assert "error: volume 3 of 3 is missing" in done.err
