"""Pairs of payloads to build patches between, and the tools that people make such patches with today.

A ``Differ`` is shell command lines, run by ``sh -eu`` with these variables: ``$OLD`` and ``$NEW`` folders,
``$PAIRS`` a file of lines ``old<TAB>new``, which says of each new file what it is likely to be like (the
tools that compare files are told by us; they could not know), ``$M`` an empty folder for what travels,
``$W`` one for whatever else the tool needs, and ``$PEERS`` the folder of the programs that are in no stable
release.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.writer import write_bundle
from appliance.definition.lock import Artefact, Lock, LockedComponent
from appliance.definition.names import Inference, Target
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_EACH: Final = """
number=0
while IFS="$(printf '\\t')" read -r old new; do number=$((number + 1)); %s; done <"$PAIRS"
"""
_DPKG: Final = "dpkg-query --show --showformat='${Version}' "


@dataclass(frozen=True)
class Differ:
    """One way of carrying what changed; ``prepare`` is what the receiver's side has done before.

    Of more than ``most`` bytes it takes so long that nobody would.
    """

    name: str
    version: str
    make: str
    prepare: str = "true"
    most: int = 1 << 40


def _of_pairs(name: str, command: str, alone: str, package: str, most: int = 1 << 40) -> Differ:
    each = _EACH % f'if [ -n "$old" ]; then {command}; else {alone}; fi'
    return Differ(name, _DPKG + package, each, most=most)


DIFFERS: Final = (
    _of_pairs(
        "xdelta3",
        'window=1048576; while [ $window -lt "$(stat -c %s "$old")" ]; do window=$((window * 2)); done; '
        'xdelta3 -q -B $window -e -s "$old" "$new" "$M/$number"',
        'xdelta3 -q -e "$new" "$M/$number"',
        "xdelta3",
    ),
    _of_pairs(
        "zstd --patch-from",
        'zstd -q --long=31 --patch-from="$old" "$new" -o "$M/$number"',
        'zstd -q "$new" -o "$M/$number"',
        "zstd",
    ),
    _of_pairs(
        "zstd -19 --patch-from",
        'zstd -q -19 --long=31 --patch-from="$old" "$new" -o "$M/$number"',
        'zstd -q -19 "$new" -o "$M/$number"',
        "zstd",
        32 << 20,
    ),
    Differ(
        "casync",
        _DPKG + "casync",
        'casync make --store="$W/all" "$M/new.caidx" "$NEW" >/dev/null; '
        'find "$W/all" -type f -newer "$W/mark" -exec cp -t "$M" {} +',
        'casync make --store="$W/all" "$W/old.caidx" "$OLD" >/dev/null; sleep 1.1; touch "$W/mark"',
    ),
    Differ(
        "desync",
        'cat "$PEERS/desync.version"',
        '"$PEERS/desync" tar --index --store "$W/all" "$M/new.caidx" "$NEW"; '
        'find "$W/all" -type f -newer "$W/mark" -exec cp -t "$M" {} +',
        'mkdir "$W/all"; "$PEERS/desync" tar --index --store "$W/all" "$W/old.caidx" "$OLD"; '
        'sleep 1.1; touch "$W/mark"',
    ),
    Differ(
        "borg, zstd",
        _DPKG + "borgbackup",
        'cd "$NEW"; borg create --compression zstd "$W/repo::new" .; cd "$W/repo/data"; '
        'find . -type f -newer "$W/mark" -exec cp -t "$M" {} +',
        'borg init --encryption none "$W/repo"; cd "$OLD"; '
        'borg create --compression zstd "$W/repo::old" .; sleep 1.1; touch "$W/mark"',
    ),
)


@dataclass(frozen=True)
class Case:
    """Two folders of files, and which old file each new one is likely to be like ("" for none)."""

    name: str
    old: Path
    new: Path
    pairs: dict[str, str]

    def write_pairs(self, path: Path) -> None:
        lines = [f"{self.old / old if old else ''}\t{self.new / new}\n" for new, old in self.pairs.items()]
        path.write_text("".join(lines))


def tokens(folder: Path, megabytes: int) -> Case:
    """A large model of which tokenizer and configuration change; the weights are the same bytes."""
    case = _folders(folder, "tokenizer and config")
    vocabulary = {f"token-{n}": n for n in range(150_000)}
    for place, words, version in (
        (case.old, vocabulary, 1),
        (case.new, vocabulary | {"<|tool|>": 150_000}, 2),
    ):
        (place / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}, indent=1))
        (place / "config.json").write_text(
            json.dumps({"eos_token_id": version, "architectures": ["Llama"]})
        )
    weights(case.old / "model.safetensors", megabytes, seed=1)
    shutil.copy(case.old / "model.safetensors", case.new / "model.safetensors")
    return case


def fine_tune(folder: Path, megabytes: int) -> Case:
    """A fine-tune: of 64 tensors of bfloat16, four are other numbers altogether, the others the same."""
    case = _folders(folder, "fine-tune of 4 tensors in 64")
    weights(case.old / "model.safetensors", megabytes, seed=1)
    weights(case.new / "model.safetensors", megabytes, seed=1, changed=frozenset({5, 21, 37, 53}))
    return case


def weights(path: Path, megabytes: int, *, seed: int, changed: frozenset[int] = frozenset()) -> None:
    """Write 64 tensors of bfloat16: random mantissas, exponents near one another as in real weights."""
    size = (megabytes << 20) // 64
    header = json.dumps({"tensors": 64, "changed": sorted(changed)}).ljust(200).encode()
    exponents = bytes(0x3B + min(4, (byte * 7).bit_count()) for byte in range(256))
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in range(64):
            source = random.Random(seed * 1000 + tensor + (500 if tensor in changed else 0))  # noqa: S311
            data = bytearray(size)
            data[::2] = source.randbytes(size // 2)
            data[1::2] = source.randbytes(size // 2).translate(exponents)
            file.write(data)


def wheels(folder: Path, download: Callable[[str, Path], None], old: str, new: str) -> Case:
    """Two versions of one wheel, as an index has them."""
    case = _folders(folder, f"{old} to {new}")
    download(old, case.old)
    download(new, case.new)
    return _only_file(case)


def packages(folder: Path, name: str) -> Case:
    """The two newest versions of one package that the machine's own apt sources have."""
    said = subprocess.run(["apt-cache", "madison", name], capture_output=True, text=True, check=True).stdout
    versions = list(dict.fromkeys(re.findall(r"\| +(\S+) +\|", said)))
    case = _folders(folder, f"{name} {versions[1]} to {versions[0]}")
    for version, place in ((versions[1], case.old), (versions[0], case.new)):
        command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", f"{name}={version}"]
        subprocess.run(command, cwd=place, capture_output=True, check=True)
    return _only_file(case)


def _folders(folder: Path, name: str) -> Case:
    case = Case(name, folder / "old", folder / "new", {})
    case.old.mkdir(parents=True)
    case.new.mkdir()
    return case


def _only_file(case: Case) -> Case:
    """One file that changes, and another that does not: alone, a package would be no patch."""
    (old,), (new,) = case.old.iterdir(), case.new.iterdir()
    (case.old / "other.whl").write_bytes(random.Random(5).randbytes(4 << 20))  # noqa: S311
    shutil.copy(case.old / "other.whl", case.new / "other.whl")
    case.pairs.update({new.name: old.name, "other.whl": "other.whl"})
    return case


class _Folder:
    """A folder as the store of a bundle."""

    def __init__(self, folder: Path) -> None:
        self.places = {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                self.places[hashlib.file_digest(file, "sha256").hexdigest()] = path

    def path(self, sha256: str) -> Path:
        return self.places[sha256]

    def known(self, sha256: str) -> bytes | None:
        return None

    def keep_known(self, sha256: str, data: bytes) -> None: ...

    def artefacts(self) -> Iterator[Artefact]:
        for digest, path in sorted(self.places.items(), key=lambda each: each[1].name):
            yield Artefact(
                path=path.name,
                name=re.split(r"[-_.]", path.name)[0],
                version="1",
                size=path.stat().st_size,
                sha256=digest,
                licence="CC0-1.0",
                origin={"kind": "file"},
            )


def as_bundle(folder: Path, out: Path, sequence: int) -> None:
    """A bundle with the files of a folder in one component."""
    store = _Folder(folder)
    artefacts = tuple(store.artefacts())
    component = LockedComponent(kind="files", artefacts=artefacts)
    lock = Lock(
        format=1,
        definition="0" * 64,
        product="bench",
        version=str(sequence),
        sequence=sequence,
        created="2026-01-31T12:00:00Z",
        target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
        inference=Inference(engine="data", model="data", file=artefacts[0].path, name="bench"),
        components={"data": component},
    )
    write_bundle(out, lock, store, root=None, progress=Silent())
