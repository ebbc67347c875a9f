"""The lock: every artefact of a bundle by name, version, size and digest, and no address.

A lock is written by ``appliance lock``, reviewed, and kept beside its definition.  The same lock
always gives the same bundle bytes; ``created`` is the only time in it, and the bundle's only time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads it at run time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from appliance.definition.hardware import Hardware  # noqa: TC001 - pydantic reads it at run time
from appliance.definition.lock_records import NotStoredError, StoredArtefacts, read_records, sizes
from appliance.definition.names import (
    ComponentName,
    FilePath,
    Format,
    Frozen,
    Inference,
    Parity,
    Product,
    Sha256,
    Target,
    ValidDays,
)
from appliance.errors import LockInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

MAX_BYTES: Final = 64 * 1024 * 1024

# RFC 3339, UTC, to the second: one spelling for one moment.
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def _is_utc_second(text: str) -> str:
    if datetime.strptime(text, TIME_FORMAT).strftime(TIME_FORMAT) != text:  # noqa: DTZ007 - Z is literal
        raise ValueError("not in the one spelling of RFC 3339 that is used here")
    return text


Created = Annotated[str, AfterValidator(_is_utc_second)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


# Names only.  An address is not among them: where to look, each station's own configuration says.
OriginKey = Literal[
    "kind",
    # debian
    "suite",
    "component",
    "package",
    "architecture",
    "source",
    "source_version",
    # debian, of a package from elsewhere than its archive: the repository, as the definition names it
    "archive",
    # python; pythons: of a toolkit's wheel, those that need it
    "project",
    "pythons",
    # huggingface; gated: whether the repository asks for consent, and who gives it; task and
    # architectures: what the hub says the model does, and how it is built
    "repository",
    "revision",
    "gated",
    "task",
    "architectures",
    # oci, beside the repository: the digest the definition names, and which part of it this is
    "image",
    "platform",
    "part",
    # the digest the origin itself publishes (docs/architecture.md)
    "upstream",
    # of a model's signature by its makers: how it is signed, by whom, what it is checked with, and how
    # many files it names that the definition leaves out (appliance.trust.upstream_claim)
    "signature",
    "signed_by",
    "key",
    "authority",
    "left_out",
    # generated, and what from
    "generator",
    "sentence",
    "python",
]


class Artefact(Frozen):
    """One file of a component.

    ``path`` is relative to the component's folder; ``size`` is in bytes; ``origin`` says where the
    file comes from, by names only (see docs/architecture.md).
    """

    path: FilePath
    name: Text
    version: Text
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256
    licence: Text
    origin: Mapping[OriginKey, str]


class LockedComponent(Frozen):
    """A component's artefacts, sorted by path.

    ``packages`` are those of a debian component that its definition names; the rest are what they need.
    """

    kind: Literal["tiny-gguf", "python", "debian", "files", "huggingface", "oci", "toolkit"]
    packages: tuple[Text, ...] = ()
    artefacts: Annotated[Sequence[Artefact], AfterValidator(tuple)]

    @model_validator(mode="after")
    def _sorted_once(self) -> Self:
        paths = [artefact.path for artefact in self.artefacts]
        if paths != sorted(set(paths)):
            raise ValueError("artefacts must be sorted by path, each path once")
        return self


class Lock(Frozen):
    """Everything a build needs; ``definition`` is the SHA-256 of the definition file's bytes.

    ``parity`` is recovery data in percent of the bundle; 0 for none.  ``valid_days`` count from
    ``created``; 0 for ever.
    """

    format: Format
    definition: Sha256
    product: Product
    version: Text
    sequence: Annotated[int, Field(ge=0)]
    created: Created
    target: Target
    inference: Inference
    components: Mapping[ComponentName, LockedComponent]
    hardware: Hardware | None = None
    parity: Parity = 0
    valid_days: ValidDays = 0

    @property
    def expires(self) -> str | None:
        """When the bundle becomes stale, RFC 3339 UTC; None for never."""
        if not self.valid_days:
            return None
        end = datetime.fromisoformat(self.created) + timedelta(days=self.valid_days)
        return end.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def size(self) -> int:
        """Bytes of all artefacts together."""
        return sum(sum(sizes(component.artefacts)) for component in self.components.values())


def lock_text(lock: Lock) -> str:
    """The lock as JSON text: keys in RFC 8785 order, indented so that a change can be reviewed."""
    return b"".join(_pieces(lock)).decode("utf-8")


def lock_digest(lock: Lock) -> str:
    """The SHA-256 (hex) of ``lock_text``."""
    digest = hashlib.sha256()
    for piece in _pieces(lock):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(lock: Lock) -> Iterator[bytes]:
    """The text of a lock; artefacts that are stored stand there as they were read."""
    stored = {
        name: component.artefacts
        for name, component in sorted(lock.components.items())
        if isinstance(component.artefacts, StoredArtefacts)
    }
    components = {
        name: component.model_copy(update={"artefacts": ()}) if name in stored else component
        for name, component in lock.components.items()
    }
    values = lock.model_copy(update={"components": components}).model_dump(
        mode="json", exclude_defaults=True
    )
    rest = (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")
    for name, artefacts in stored.items():
        before, empty, rest = rest.partition(b'\n    "%s": {\n      "artefacts": []' % name.encode("ascii"))
        yield before + empty[:-1] + b"\n"
        yield from artefacts.text()
        yield b"\n      ]"
    yield rest


def read_lock_bytes(data: bytes) -> Lock:
    """Read a lock of any length, as ``parse_lock`` does; one as ``lock_text`` spells it is kept as it is.

    Raises:
        LockInvalid: as ``parse_lock``.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        if len(data) > MAX_BYTES:
            raise NotStoredError
        rest, stored = read_records(data, _read_artefact, _make_artefact)
        lock = Lock.model_validate_json(rest, strict=True)
        if stored.keys() <= lock.components.keys():
            components = {
                name: component.model_copy(update={"artefacts": stored.get(name, component.artefacts)})
                for name, component in lock.components.items()
            }
            if lock_text(lock).encode("utf-8") == rest:
                return lock.model_copy(update={"components": components})
    except (NotStoredError, ValueError):
        pass
    return parse_lock(data.decode("utf-8"))


def _read_artefact(record: bytes) -> Artefact:
    return Artefact.model_validate_json(record, strict=True)


def _make_artefact(record: bytes) -> Artefact:
    return Artefact.model_construct(**json.loads(record))


def parse_lock(text: str) -> Lock:
    """Read a lock.

    Raises:
        LockInvalid: not JSON, a key twice, an unknown key, a wrong value.
    """
    hint = "lock the definition again; a lock is not edited by hand"
    if len(text) > MAX_BYTES:
        raise LockInvalid("the lock is too large", found=f"{len(text)} characters", hint=hint)
    try:
        json.loads(text, object_pairs_hook=_check_keys)
        return Lock.model_validate_json(text, strict=True)
    except (json.JSONDecodeError, RecursionError) as fault:
        raise LockInvalid("the lock is not JSON", found=str(fault), hint=hint) from fault
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = json.dumps(first["input"], default=str)[:120]
        raise LockInvalid(
            f"the lock is wrong at {place}", found=found, wanted=first["msg"], hint=hint
        ) from fault
    except ValueError as fault:
        raise LockInvalid("the lock is malformed", found=str(fault), hint=hint) from fault


def _check_keys(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object with a key twice; keeps none of it, for a lock may have 200,000 objects."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is written twice")
