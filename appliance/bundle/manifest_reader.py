"""Reading a manifest strictly; see ``appliance.bundle.manifest.parse_manifest``.

Beyond types and spelling, these hold of every manifest that is accepted:

- components are in order of name, files in order of path, each once, each under its own component;
- the packages asked for are in order, each once;
- slices add up to their file, all but the last are of one size that is whole blocks;
- no payload file has a name that only slices may have; all paths can lie in one folder;
- the engine and the model that are served are components of this bundle, and the model's file is there
  (of a patch: of the bundle that it makes);
- a patch, and nothing else, has a base, a bundle that it makes, and one component that says how;
- outside the payload lie VERIFY.txt, blocks.bin, and of the optional files of format 1 any.
"""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.manifest import (
    FILE_MODE,
    FORMAT,
    PATCH,
    Base,
    Build,
    Component,
    Inference,
    ListedFile,
    Manifest,
    PayloadFile,
    Target,
)
from appliance.bundle.paths import (
    BLOCKS_PATH,
    MANIFEST_PATH,
    PAYLOAD_FOLDER,
    REVIEW_PATH,
    check_path,
    check_paths,
    is_slice,
    misplaced,
)
from appliance.errors import BundleMalformed
from appliance.hardware.needs import FIRMWARE, HardwareNeeds
from appliance.trust.canonical import NotCanonicalError, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Room for about 200,000 files.
MAX_BYTES: Final = 128 * 1024 * 1024
MIN_SLICES: Final = 2
MAX_SLICES: Final = 10_000

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")
_PYTHON = re.compile(r"3\.[1-9][0-9]")
_SERVED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODE = re.compile(FILE_MODE)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,127}")  # Debian Policy, section 5.6.1
_MIG = re.compile(r"[a-z0-9][a-z0-9.,*-]{0,199}")
_PRECISION = re.compile(r"bf16|fp16|fp32")
_TASK = re.compile(r"transcription")
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MANIFEST_KEYS: Final = frozenset(
    {
        "format",
        "product",
        "version",
        "sequence",
        "created",
        "target",
        "inference",
        "requires",
        "components",
        "files",
    }
)
_BASE_KEYS: Final = frozenset({"bundle", "sequence", "version"})
_BUILD_KEYS: Final = frozenset({"definition", "lock"})
_TARGET_KEYS: Final = frozenset({"distribution", "suite", "architecture", "python"})
_INFERENCE_KEYS: Final = frozenset({"engine", "model", "file", "name"})
_SERVING_KEYS: Final = frozenset({"context", "eager", "precision", "sequences", "task"})
_MOST_CONTEXT: Final = 9_999_999
_MOST_SEQUENCES: Final = 9_999
_HARDWARE_KEYS: Final = frozenset(
    {"firmware", "gpu", "gpus", "memory_gib", "nvswitches", "patch_gb", "tensor_parallel"}
)
_HARDWARE_ASKED: Final = frozenset({"disk_gb", "driver", "mig", "nic_gbps"})
_MOST_GPUS: Final = 16
_MOST_GBPS: Final = 9_999
_LEAST_DRIVER: Final = 100
_MOST_DRIVER: Final = 9_999
_FILE_KEYS: Final = frozenset({"path", "size", "sha256", "mode", "name", "version", "licence", "origin"})
_LISTED_KEYS: Final = frozenset({"path", "size", "sha256"})


def read_manifest(data: bytes) -> Manifest:
    """Parse and check; see ``parse_manifest``."""
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise BundleMalformed(
            f"{MANIFEST_PATH} is not canonical JSON",
            found=str(fault),
            wanted="the RFC 8785 spelling, as the builder writes it",
            hint="obtain the bundle again",
        ) from fault
    return judge_values(value)


def judge_values(value: object) -> Manifest:
    """The manifest with these JSON values, if it keeps every rule but the one about spelling."""
    top = Record(value, MANIFEST_PATH, BundleMalformed)
    manifest = manifest_of(top, _files)
    _check_paths(manifest)
    _check_served(top, manifest)
    return manifest


def manifest_of(top: Record, files_of: Callable[[Record, str], Sequence[PayloadFile]]) -> Manifest:
    """The manifest with these values, each checked by itself.

    Args:
        top: the whole file.
        files_of: reads the files of a component, of which the folder's path is given.
    """
    top.exactly(_MANIFEST_KEYS, frozenset({"build", "expires", "hardware", "makes"}))
    if top.number("format") != FORMAT:
        top.refuse("another format", found=str(top.number("format")), wanted=str(FORMAT))
    manifest = Manifest(
        product=top.text("product", _NAME),
        version=top.text("version", _VERSION),
        sequence=top.number("sequence"),
        created=_time(top, "created"),
        target=_target(top.record("target")),
        inference=_inference(top.record("inference")),
        components=_components(top.record("components"), files_of),
        files=_root_files(top),
        build=_build(top.record("build")) if top.has("build") else None,
        expires=_time(top, "expires") if top.has("expires") else None,
        hardware=_hardware(top.record("hardware")) if top.has("hardware") else None,
        requires=tuple(map(_base, top.records("requires"))),
        makes=top.text("makes", _SHA256) if top.has("makes") else None,
    )
    _check_patch(top, manifest)
    return manifest


def _base(record: Record) -> Base:
    record.exactly(_BASE_KEYS)
    return Base(
        bundle=record.text("bundle", _SHA256),
        version=record.text("version", _VERSION),
        sequence=record.number("sequence"),
    )


def _check_patch(top: Record, manifest: Manifest) -> None:
    """What makes a patch belongs together, and it leads forward."""
    patches = sum(component.kind == PATCH for component in manifest.components.values())
    if not len(manifest.requires) == patches == (manifest.makes is not None):
        top.refuse(
            "this is neither a whole bundle nor a patch",
            found=f"requires: {len(manifest.requires)}, makes: {manifest.makes}, kind patch: {patches}",
            wanted="of a patch one each, of a whole bundle none",
        )
    for base in manifest.requires:
        if base.bundle == manifest.makes or base.sequence >= manifest.sequence:
            top.refuse(
                "the patch does not lead forward",
                found=f"from sequence {base.sequence} to {manifest.sequence}",
                wanted="a later one, of another bundle",
            )


def _time(top: Record, key: str) -> str:
    text = top.text(key)
    try:
        right = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").strftime("%Y-%m-%dT%H:%M:%SZ") == text
    except ValueError:
        right = False
    if right:
        return text
    return top.refuse(f"{key} is not a time", found=text, wanted="RFC 3339 in UTC: 2026-01-31T12:00:00Z")


def _build(record: Record) -> Build:
    record.exactly(_BUILD_KEYS)
    return Build(definition=record.text("definition", _SHA256), lock=record.text("lock", _SHA256))


def _target(record: Record) -> Target:
    record.exactly(_TARGET_KEYS)
    return Target(
        distribution=record.text("distribution", _NAME),
        suite=record.text("suite", _NAME),
        architecture=record.text("architecture", _NAME),
        python=record.text("python", _PYTHON),
    )


def _hardware(record: Record) -> HardwareNeeds:
    record.exactly(_HARDWARE_KEYS, _HARDWARE_ASKED)
    firmware = tuple(word for word in FIRMWARE if word in record.items("firmware"))
    if list(firmware) != record.items("firmware"):
        record.refuse("firmware is not a sorted list of known words", wanted=", ".join(FIRMWARE))
    return HardwareNeeds(
        gpu=record.text("gpu", _NAME),
        gpus=record.number("gpus", least=1, most=_MOST_GPUS),
        tensor_parallel=record.number("tensor_parallel", least=1, most=_MOST_GPUS),
        mig=record.text("mig", _MIG) if record.has("mig") else "",
        nvswitches=record.number("nvswitches", most=_MOST_GPUS),
        memory_gib=record.number("memory_gib"),
        patch_gb=record.number("patch_gb"),
        firmware=firmware,
        driver=record.number("driver", least=_LEAST_DRIVER, most=_MOST_DRIVER)
        if record.has("driver")
        else 0,
        disk_gb=record.number("disk_gb", least=1) if record.has("disk_gb") else 0,
        nic_gbps=record.number("nic_gbps", least=1, most=_MOST_GBPS) if record.has("nic_gbps") else 0,
    )


def _inference(record: Record) -> Inference:
    record.exactly(_INFERENCE_KEYS, _SERVING_KEYS)
    file = record.text("file")
    check_path(file)
    if record.has("eager") and not record.flag("eager"):
        record.refuse("eager is said only where it is so", wanted="true, or no such key")
    return Inference(
        engine=record.text("engine", _NAME),
        model=record.text("model", _NAME),
        file=file,
        name=record.text("name", _SERVED),
        context=record.number("context", least=1, most=_MOST_CONTEXT) if record.has("context") else None,
        sequences=record.number("sequences", least=1, most=_MOST_SEQUENCES)
        if record.has("sequences")
        else None,
        precision=record.text("precision", _PRECISION) if record.has("precision") else None,
        eager=record.has("eager"),
        task=record.text("task", _TASK) if record.has("task") else None,
    )


def _components(
    record: Record, files_of: Callable[[Record, str], Sequence[PayloadFile]]
) -> Mapping[str, Component]:
    components: dict[str, Component] = {}
    for name in record.names():
        if not _NAME.fullmatch(name):
            record.refuse("a component's name is misspelled", found=name, wanted=_NAME.pattern)
        part = record.record(name).exactly(frozenset({"kind", "files"}), frozenset({"packages"}))
        files = files_of(part, f"{PAYLOAD_FOLDER}/{name}/")
        packages = _packages(part) if part.has("packages") else ()
        components[name] = Component(part.text("kind", _NAME), files, packages)
    return components


def _files(component: Record, folder: str) -> tuple[PayloadFile, ...]:
    files = tuple(payload_file(file, folder) for file in component.records("files"))
    if any(one.path >= other.path for one, other in pairwise(files)):
        component.refuse("files are not sorted by path, each once")
    return files


def _packages(component: Record) -> tuple[str, ...]:
    names = tuple(
        value if isinstance(value, str) and _PACKAGE.fullmatch(value) else _misspelled(component, value)
        for value in component.items("packages")
    )
    if not names or any(one >= other for one, other in pairwise(names)):
        component.refuse("packages are not sorted, each once, at least one")
    return names


def _misspelled(component: Record, value: object) -> NoReturn:
    component.refuse("a package's name is misspelled", found=str(value), wanted=_PACKAGE.pattern)


def payload_file(record: Record, folder: str) -> PayloadFile:
    """The file that a record of the component in ``folder`` describes."""
    record.exactly(_FILE_KEYS, frozenset({"slices"}))
    path = record.text("path")
    check_path(path)
    if not path.startswith(folder):
        record.refuse("the file lies outside its component", found=path, wanted=f"{folder}…")
    if is_slice(path):
        record.refuse("the name is one that only slices may have", found=path)
    size = record.number("size")
    return PayloadFile(
        path=path,
        size=size,
        sha256=record.text("sha256", _SHA256),
        mode=record.text("mode", _MODE),
        name=record.text("name"),
        version=record.text("version"),
        licence=record.text("licence"),
        origin=_origin(record.record("origin")),
        slices=_slices(record, size) if record.has("slices") else (),
    )


def _origin(record: Record) -> Mapping[str, str]:
    if not record.has("kind"):
        record.refuse("no kind")
    for key in record.names():
        if not _KEY.fullmatch(key):
            record.refuse("a key is misspelled", found=key, wanted=_KEY.pattern)
    return {key: record.text(key) for key in record.names()}


def _slices(record: Record, size: int) -> tuple[ListedFile, ...]:
    slices = tuple(
        ListedFile(part.text("sha256", _SHA256), part.number("size", least=1))
        for part in (part.exactly(frozenset({"sha256", "size"})) for part in record.records("slices"))
    )
    if not MIN_SLICES <= len(slices) <= MAX_SLICES:
        record.refuse(
            "a wrong number of slices", found=str(len(slices)), wanted=f"{MIN_SLICES} to {MAX_SLICES}"
        )
    whole = slices[0].size
    if whole % BLOCK_SIZE or any(part.size != whole for part in slices[:-1]) or slices[-1].size > whole:
        record.refuse("slices are not all of one size of whole blocks, the last at most as long")
    if sum(part.size for part in slices) != size:
        record.refuse("slices do not add up to the file's size", wanted=str(size))
    return slices


def _root_files(top: Record) -> Mapping[str, ListedFile]:
    files: dict[str, ListedFile] = {}
    for record in top.records("files"):
        record.exactly(_LISTED_KEYS)
        path = record.text("path")
        if files and path <= next(reversed(files)):
            record.refuse("files are not sorted by path, each once", found=path)
        files[path] = ListedFile(record.text("sha256", _SHA256), record.number("size"))
    if fault := misplaced(files, required=frozenset({BLOCKS_PATH, REVIEW_PATH})):
        top.refuse("wrong files outside the payload", found=fault[0], wanted=fault[1])
    return files


def _check_paths(manifest: Manifest) -> None:
    payload = [file.path for file in manifest.payload()]
    parts = [path for file in manifest.payload() for path, _ in file.parts()]
    for path in parts:
        check_path(path)
    check_paths([*manifest.files, MANIFEST_PATH, *parts])
    # A sliced file is one file again on the node: its own name must not collide either.
    check_paths(payload)


def _check_served(top: Record, manifest: Manifest) -> None:
    if manifest.makes is not None:  # its bundle has them, and is judged itself
        return
    served = manifest.inference
    for name in (served.engine, served.model):
        if name not in manifest.components:
            top.refuse("inference names a component that is not there", found=name)
    path = f"{PAYLOAD_FOLDER}/{served.model}/{served.file}"
    if all(file.path != path for file in manifest.components[served.model].files):
        top.refuse("inference names a file that is not there", found=path)
