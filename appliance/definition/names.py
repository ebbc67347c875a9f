"""The words that definition and lock share: names, paths, digests, the target and what is served."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_PATH_BYTES: Final = 512
# A bundle path is "payload/<component>/<path>", and a sliced file gains ".slice-0000".
_RESERVED: Final = len("payload/") + 64 + len("/") + len(".slice-0000")
#: Of a path within a component, in bytes.
LONGEST_FILE_PATH: Final = MAX_PATH_BYTES - _RESERVED

_PART: Final = r"[A-Za-z0-9._+~@=-]+"


def _is_plain_path(path: str) -> str:
    if any(part in {".", ".."} for part in path.split("/")):
        raise ValueError("a path must not leave its folder: no '.' or '..' part")
    return path


def _is_format_1(number: int) -> int:
    if number != 1:
        raise ValueError("this program reads format 1")
    return number


Format = Annotated[int, AfterValidator(_is_format_1)]
# What weights are computed in, as `appliance plan` names it; fewer bits are a matter of the weights' files.
Precision = Literal["bf16", "fp16", "fp32"]
ComponentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Product = ComponentName
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Recovery data in percent; 0 for none.
Parity = Annotated[int, Field(ge=0, le=10)]
# Days from locking after which a bundle counts as stale; 0 for never.
ValidDays = Annotated[int, Field(ge=0, le=36500)]
# The spelling of docs/architecture.md, "Bundle, format 1".
FilePath = Annotated[
    str,
    StringConstraints(pattern=rf"^{_PART}(?:/{_PART})*$", max_length=LONGEST_FILE_PATH),
    AfterValidator(_is_plain_path),
]


class Frozen(BaseModel):
    """Base of what is read from files: unknown keys are errors, values stay as read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(Frozen):
    """The system a bundle is for.  ``python`` is the node's, as "major.minor"."""

    distribution: Literal["debian"]
    suite: Literal["bookworm", "trixie"]
    architecture: Literal["amd64"]
    python: Annotated[str, StringConstraints(pattern=r"^3\.(?:1[1-9]|[2-9][0-9])$")]


class Inference(Frozen):
    """What the node serves: the ``file`` of component ``model``, by component ``engine``, as ``name``.

    ``context`` is in tokens, prompt and answer together; ``sequences`` are served at a time; ``precision``
    is what weights are computed in, left out: as they are.  ``eager``: nothing is compiled on the node.
    ``task`` is what clients ask of the model; left out, to go on with a chat.
    """

    engine: ComponentName
    model: ComponentName
    file: FilePath
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    context: Annotated[int, Field(ge=256, le=9_999_999)] | None = None
    sequences: Annotated[int, Field(ge=1, le=1024)] | None = None
    precision: Precision | None = None
    eager: bool = False
    task: Literal["transcription"] | None = None
