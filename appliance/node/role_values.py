"""The variables of the role ``quiet_host`` as they are written, in the roles that this program carries."""

from __future__ import annotations

from typing import Any

import yaml

from appliance.content import content_root


def role_values() -> dict[str, Any]:
    """Variables by name; JSON can say all of them."""
    values: dict[str, Any] = {}
    for file in sorted((content_root() / "roles/quiet_host/vars/main").glob("*.yml")):
        values |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return values
