"""A manifest in which anything is wrong is not a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.blocks import BLOCK_SIZE, blocks_size, split_blocks
from appliance.bundle.manifest import manifest_bytes, parse_manifest
from appliance.errors import BundleMalformed
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

D = "0" * 64
MIB_9 = 9 << 20


@pytest.fixture(scope="session")
def good(pristine_bundle: Path) -> bytes:
    return (pristine_bundle / "manifest.json").read_bytes()


@pytest.fixture
def values(good: bytes) -> dict[str, Any]:
    """A good manifest as JSON values, with one sliced file, to be spoilt in one place."""
    values = json.loads(good)
    file = values["components"]["model"]["files"][0]
    file["size"] = MIB_9
    file["slices"] = [{"size": BLOCK_SIZE, "sha256": D}] * 2 + [{"size": 1 << 20, "sha256": D}]
    return values


def test_a_manifest_is_read_back(good: bytes, values: dict[str, Any]) -> None:
    for data in (good, canonical_bytes(values)):
        assert manifest_bytes(parse_manifest(data)) == data


def test_what_others_read_in_it(values: dict[str, Any]) -> None:
    manifest = parse_manifest(canonical_bytes(values))
    assert (manifest.product, manifest.version, manifest.sequence) == ("demo", "1.0.0", 7)
    assert manifest.target.python == "3.13"
    assert list(manifest.components) == ["engine", "extras", "model"]
    model = manifest.components["model"].files[0]
    assert [path for path, _ in model.parts()] == [
        f"payload/model/tiny.gguf.slice-000{number}" for number in range(3)
    ]
    assert "payload/model/tiny.gguf" not in manifest.listed()
    assert [path for path, _ in manifest.components["engine"].files[0].parts()] == [
        "payload/engine/engine-1.0-py3-none-any.whl"
    ]


def test_what_was_asked_for_by_name_is_kept(values: dict[str, Any]) -> None:
    values["components"]["engine"]["packages"] = ["iproute2", "libstdc++6", "ufw"]
    data = canonical_bytes(values)
    manifest = parse_manifest(data)
    assert manifest.components["engine"].packages == ("iproute2", "libstdc++6", "ufw")
    assert manifest.components["model"].packages == ()
    assert manifest_bytes(manifest) == data


def test_what_it_was_built_from_is_kept(values: dict[str, Any]) -> None:
    values.pop("build", None)
    assert parse_manifest(canonical_bytes(values)).build is None
    values["build"] = {"definition": "1" * 64, "lock": "2" * 64}
    data = canonical_bytes(values)
    manifest = parse_manifest(data)
    assert manifest.build
    assert (manifest.build.definition, manifest.build.lock) == ("1" * 64, "2" * 64)
    assert manifest_bytes(manifest) == data


def test_the_optional_files_outside_the_payload(values: dict[str, Any]) -> None:
    _root_files("VERIFY.txt", "blocks.bin", "bootstrap.sh", "parity/set-0000.par2", "sbom/bundle.cdx.json")(
        values
    )
    assert "bootstrap.sh" in parse_manifest(canonical_bytes(values)).files


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


#: What a manifest may ask of a machine, at the edges of what it may.
HARDWARE: dict[str, Any] = {
    "firmware": ["tpm2", "uefi"],
    "gpu": "h100-sxm",
    "gpus": 16,
    "memory_gib": 0,
    "mig": "3g.40gb,2*1g.20gb",
    "nvswitches": 0,
    "patch_gb": 2**53 - 1,
    "tensor_parallel": 1,
}


def _hardware(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Needs with some changed, or left out (...)."""
    changed = {key: value for key, value in {**HARDWARE, **changes}.items() if value is not ...}
    return _set("hardware", to=changed)


def _drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return spoil


def _both(*spoils: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        for each in spoils:
            each(values)

    return spoil


def _reverse(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        place: Any = values
        for step in path:
            place = place[step]
        place.reverse()

    return spoil


def _root_files(*paths: str) -> Callable[[dict[str, Any]], None]:
    return _set("files", to=[{"path": path, "sha256": D, "size": 1} for path in sorted(paths)])


def _beside_the_model(path: str) -> Callable[[dict[str, Any]], None]:
    def spoil(values: dict[str, Any]) -> None:
        files = values["components"]["model"]["files"]
        whole = {key: value for key, value in files[0].items() if key != "slices"}
        files.append({**whole, "path": path})

    return spoil


FIRST = ("components", "engine", "files", 0)
MODEL = ("components", "model", "files", 0)
SLICES = (*MODEL, "slices")
WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "other format": _set("format", to=2),
    "format as truth": _set("format", to=True),
    "unknown key": _set("note", to="x"),
    "no files": _drop("files"),
    "requires something": _set("requires", to=["base"]),
    "requires as text": _set("requires", to=""),
    "product in capitals": _set("product", to="Demo"),
    "product empty": _set("product", to=""),
    "product with a path": _set("product", to="../demo"),
    "version with a space": _set("version", to="1 0"),
    "version a number": _set("version", to=1),
    "version with an escape": _set("version", to="1\x1b[2J"),
    "sequence negative": _set("sequence", to=-1),
    "sequence as text": _set("sequence", to="7"),
    "sequence as truth": _set("sequence", to=True),
    "created without zone": _set("created", to="2026-01-31T12:00:00"),
    "created elsewhere": _set("created", to="2026-01-31T12:00:00+01:00"),
    "created on a day that is not": _set("created", to="2026-02-30T12:00:00Z"),
    "created with fractions": _set("created", to="2026-01-31T12:00:00.5Z"),
    "created as number": _set("created", to=0),
    "target unknown key": _set("target", "kernel", to="6.12"),
    "target without python": _drop("target", "python"),
    "python 2": _set("target", "python", to="2.7"),
    "inference null": _set("inference", to=None),
    "inference of nothing": _set("inference", "engine", to="nothing"),
    "inference of a file that is not there": _set("inference", "file", to="other.gguf"),
    "inference leaving its folder": _set("inference", "file", to="../engine/requirements.txt"),
    "served name an option": _set("inference", "name", to="--help"),
    "component name in capitals": _set("components", "Model", to={"kind": "files", "files": []}),
    "component name a path": _set("components", "../x", to={"kind": "files", "files": []}),
    "component without kind": _drop("components", "model", "kind"),
    "component with more": _set("components", "model", "script", to="x"),
    "component kind misspelled": _set("components", "model", "kind", to="Tiny GGUF"),
    "components as list": _set("components", to=[]),
    "packages null": _set("components", "model", "packages", to=None),
    "no packages": _set("components", "model", "packages", to=[]),
    "packages out of order": _set("components", "model", "packages", to=["ufw", "iproute2"]),
    "package twice": _set("components", "model", "packages", to=["ufw", "ufw"]),
    "package an option": _set("components", "model", "packages", to=["--allow-downgrades"]),
    "package a number": _set("components", "model", "packages", to=[1]),
    "files as object": _set("components", "model", "files", to={}),
    "file a text": _set(*FIRST, to="payload/engine/x"),
    "file without licence": _drop(*FIRST, "licence"),
    "file with more": _set(*FIRST, "url", to="x"),
    "file of another component": _set(*FIRST, "path", to="payload/model/x.whl"),
    "file outside the payload": _set(*FIRST, "path", to="trust/root.1.json"),
    "file leaving its folder": _set(*FIRST, "path", to="payload/engine/../../x"),
    "file named like a slice": _set(*FIRST, "path", to="payload/engine/x.slice-0000"),
    "file path with an escape": _set(*FIRST, "path", to="payload/engine/\x1b[2J"),
    "files out of order": _reverse("components", "engine", "files"),
    "file twice": _set(
        "components", "engine", "files", 1, "path", to="payload/engine/engine-1.0-py3-none-any.whl"
    ),
    "files differing in case": _set(
        "components", "engine", "files", 1, "path", to="payload/engine/engine-1.0-py3-none-any.wHl"
    ),
    "size negative": _set(*FIRST, "size", to=-1),
    "size as text": _set(*FIRST, "size", to="5"),
    "digest short": _set(*FIRST, "sha256", to="0" * 63),
    "digest in capitals": _set(*FIRST, "sha256", to="A" * 64),
    "digest of another kind": _set(*FIRST, "sha256", to="sha256:" + D),
    "mode executable": _set(*FIRST, "mode", to="0755"),
    "mode setuid": _set(*FIRST, "mode", to="4755"),
    "mode as number": _set(*FIRST, "mode", to=420),
    "name empty": _set(*FIRST, "name", to=""),
    "name bidirectional": _set(*FIRST, "name", to="\u202egnp"),
    "licence with a line feed": _set(*FIRST, "licence", to="MIT\nVERIFIED"),
    "origin without kind": _set(*FIRST, "origin", to={"project": "x"}),
    "origin with a number": _set(*FIRST, "origin", to={"kind": 1}),
    "origin with an object": _set(*FIRST, "origin", to={"kind": {}}),
    "origin with a strange key": _set(*FIRST, "origin", to={"kind": "x", "A B": "x"}),
    "slices null": _set(*SLICES, to=None),
    "no slice": _set(*SLICES, to=[]),
    "one slice": _set(*SLICES, to=[{"size": MIB_9, "sha256": D}]),
    "slices too short together": _set(*MODEL, "size", to=MIB_9 + 1),
    "slices of other sizes": _both(
        _set(*SLICES, to=[{"size": size, "sha256": D} for size in (BLOCK_SIZE, 1 << 20, BLOCK_SIZE)])
    ),
    "last slice longest": _both(
        _set(*MODEL, "size", to=3 * BLOCK_SIZE),
        _set(*SLICES, to=[{"size": BLOCK_SIZE, "sha256": D}, {"size": 2 * BLOCK_SIZE, "sha256": D}]),
    ),
    "slices of broken blocks": _both(
        _set(*MODEL, "size", to=(BLOCK_SIZE + 1) * 2),
        _set(*SLICES, to=[{"size": BLOCK_SIZE + 1, "sha256": D}] * 2),
    ),
    "empty slice": _both(
        _set(*MODEL, "size", to=BLOCK_SIZE),
        _set(*SLICES, to=[{"size": BLOCK_SIZE, "sha256": D}, {"size": 0, "sha256": D}]),
    ),
    "slice with a path": _set(*SLICES, 0, "path", to="x"),
    "cut file a folder too": _beside_the_model("payload/model/tiny.gguf/x"),
    "slice in other letters": _beside_the_model("payload/model/tiny.gguf.SLICE-0001"),
    "no block index": _root_files("VERIFY.txt", "trust/root.1.json"),
    "no review page": _root_files("blocks.bin"),
    "a gap": _root_files("VERIFY.txt", "blocks.bin", "trust/root.1.json", "trust/root.3.json"),
    "itself": _root_files("VERIFY.txt", "blocks.bin", "manifest.json"),
    "another file": _root_files("VERIFY.txt", "blocks.bin", "autorun.inf"),
    "parity with a gap": _root_files("VERIFY.txt", "blocks.bin", "parity/set-0001.par2"),
    "provenance": _root_files("VERIFY.txt", "blocks.bin", "trust/provenance.a.dsse.json"),
    "expires tomorrow": _set("expires", to="tomorrow"),
    "expires null": _set("expires", to=None),
    "hardware null": _set("hardware", to=None),
    "hardware without GPUs": _hardware(gpus=...),
    "hardware of no GPU": _hardware(gpus=0),
    "hardware of seventeen": _hardware(gpus=17),
    "hardware over none": _hardware(tensor_parallel=0),
    "hardware with text for a number": _hardware(memory_gib="1"),
    "hardware with a strange name": _hardware(gpu="H100 SXM"),
    "hardware with empty slices": _hardware(mig=""),
    "hardware with a strange slice": _hardware(mig="7g.80gb; reboot"),
    "hardware with unsorted words": _hardware(firmware=["uefi", "tpm2"]),
    "hardware with a word twice": _hardware(firmware=["uefi", "uefi"]),
    "hardware with another word": _hardware(firmware=["coreboot"]),
    "hardware with a number for a word": _hardware(firmware=[1]),
    "hardware with a list for a word": _hardware(firmware=[["uefi"]]),
    "hardware with more": _hardware(cpus=1),
    "build null": _set("build", to=None),
    "build without the lock": _set("build", to={"definition": D}),
    "build with more": _set("build", to={"definition": D, "lock": D, "host": D}),
    "build with a short digest": _set("build", to={"definition": D, "lock": "0" * 63}),
    "root files out of order": _reverse("files"),
    "root file with more": _set("files", 0, "mode", to="0644"),
    "root file null": _set("files", 0, to=None),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_one_thing_wrong_refuses_the_manifest(
    spoil: Callable[[dict[str, Any]], None], values: dict[str, Any]
) -> None:
    parse_manifest(canonical_bytes(values))
    spoil(values)
    with pytest.raises(BundleMalformed) as caught:
        parse_manifest(canonical_bytes(values))
    shown = f"{caught.value.message}{caught.value.found}"
    assert shown.isprintable(), "what a hostile manifest says must not reach a terminal raw"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mig": ...},
        {"firmware": []},
        {"nvswitches": 16},
        {"driver": 531},
        {"disk_gb": 1, "nic_gbps": 9999},
    ],
)
def test_what_a_bundle_needs_of_a_machine_is_read_back(
    changes: dict[str, Any], values: dict[str, Any]
) -> None:
    _hardware(**changes)(values)
    data = canonical_bytes(values)
    assert manifest_bytes(parse_manifest(data)) == data


def test_other_spellings_are_refused(good: bytes) -> None:
    for data in (
        good + b"\n",
        json.dumps(json.loads(good)).encode(),
        good.replace(b'"format":1', b'"format":1,"format":1'),
        good.replace(b'"sequence":7', b'"sequence":7e0'),
        good.replace(b'"sequence":7', b'"sequence":' + b"7" * 5_000_000),
        b"[" * 1_000_000,
        b"",
        b"null",
    ):
        with pytest.raises(BundleMalformed):
            parse_manifest(data)


@given(st.data())
def test_a_manifest_with_bytes_exchanged_is_refused_or_another(good: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(good) - 1))
    bad = good[:position] + bytes([data.draw(st.integers(0, 255))]) + good[position + 1 :]
    try:
        manifest = parse_manifest(bad)
    except BundleMalformed:
        return
    assert manifest_bytes(manifest) == bad


def test_the_block_index_is_divided_by_file(values: dict[str, Any]) -> None:
    for name, component in values["components"].items():
        for number, file in enumerate(component["files"]):
            file["sha256"] = f"{len(name) * 16 + number:02x}" * 32
    manifest = parse_manifest(canonical_bytes(values))
    listed = [(path, part) for file in manifest.payload() for path, part in file.parts()]
    data = b"".join(bytes.fromhex(part.sha256) for _, part in listed if part.size)
    assert blocks_size(manifest) == len(data)
    assert dict(split_blocks(manifest, data))["payload/extras/empty"] == ()
    assert [path for path, _ in split_blocks(manifest, data)] == [path for path, _ in listed]
    for wrong in (data[:-1], data + bytes(32), b""):
        with pytest.raises(BundleMalformed, match="fit"):
            list(split_blocks(manifest, wrong))
    with pytest.raises(BundleMalformed, match="contradicts"):
        list(split_blocks(manifest, bytes([data[0] ^ 1]) + data[1:]))
