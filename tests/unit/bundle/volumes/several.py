"""What is said of several volumes, and how they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.opening import open_tree
from appliance.bundle.reader import read_contents, read_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.errors import BundleUntrusted


BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"


def refusal(error: type[BundleUntrusted], call: Callable[..., object], folders: Sequence[Path]) -> str:
    """Everything the error says, which must be safe to print."""
    with pytest.raises(error) as caught:
        call(folders)
    said = [caught.value.message, caught.value.found, caught.value.wanted, caught.value.hint]
    assert all(text is None or text.isprintable() for text in said)
    return "\n".join(text for text in said if text)


def notes(folders: Sequence[Path]) -> tuple[str, ...]:
    with open_tree(folders) as tree:
        read_contents(tree, read_signed(tree))
        return tree.notes
