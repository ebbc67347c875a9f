"""A person who inserts one medium after the other, and what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.media.collecting import Joined, Lacking

Join: TypeAlias = "Callable[..., Joined]"

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"
SLICE = f"{MODEL}.slice-0001"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def name_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


class Desk:
    """Somebody with one port, who inserts these folders in turn."""

    def __init__(self, *folders: Path) -> None:
        self.folders = list(folders)
        self.asked: list[Lacking] = []

    def __call__(self, lacking: Lacking) -> Path:
        self.asked.append(lacking)
        return self.folders.pop(0)
