"""What the hub says of the model in a repository: its licence, its task, how it is built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # of a task or an architecture
_MOST_NAMES: Final = 8


def licence(info: ModelInfo) -> str | None:
    """The licence of the model card, in SPDX's spelling where it is SPDX's; its name if it is its own."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    stated = info.card_data.get("license") if info.card_data else None
    if stated == "other" and info.card_data:
        stated = info.card_data.get("license_name") or stated
    names = [str(name) for name in (stated if isinstance(stated, list) else [stated]) if name]
    try:
        return str(canonicalize_license_expression(" AND ".join(names))) if names else None
    except InvalidLicenseExpression:
        return ", ".join(names)


def task(info: ModelInfo) -> str | None:
    """What the model is for, as the hub sorts it; None if it is not sorted."""
    return _names(info.pipeline_tag)


def architectures(info: ModelInfo) -> str | None:
    """The classes that the repository's configuration names; None where there are none."""
    return _names(info.config.get("architectures")) if isinstance(info.config, dict) else None


def _names(stated: object) -> str | None:
    """One name, or several; None for what is not made of names: it is a stranger's, and shown to people."""
    names: list[Any] = stated if isinstance(stated, list) else [stated]
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        return None
    return ", ".join(names[:_MOST_NAMES]) or None
