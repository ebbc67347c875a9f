"""Where this program's own playbooks and roles lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def content_root() -> Path:
    """The folder that holds ``playbooks/`` and ``roles/``.

    In a checkout that is the repository's root; in an installed wheel it is ``appliance/content``,
    where the build puts them (see ``force-include`` in pyproject.toml).
    """
    installed = _PACKAGE / "content"
    return installed if installed.is_dir() else _PACKAGE.parent
