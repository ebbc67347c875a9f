"""What pydantic found wrong, told for the person who wrote the file: place, found, wanted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from appliance.definition.document import Document, Loc
    from appliance.errors import Location

_SHOWN: Final = 80  # characters of a wrong value in a message
_SECRET: Final = re.compile("AGE-SECRET-KEY-|PRIVATE KEY", re.IGNORECASE)
_KEY: Final = "[key]"  # pydantic's last part of a location when a mapping's key itself is wrong


@dataclass(frozen=True)
class Fault:
    """One thing that does not fit the model."""

    message: str
    found: str | None
    wanted: str | None
    where: Location


def explain(  # noqa: PLR0911 - one return per kind of fault
    document: Document, model: type[BaseModel], details: ErrorDetails
) -> Fault:
    """Turn one of pydantic's error entries into a fault with its place in the document."""
    loc = _written_loc(document.values, details["loc"])
    name = ".".join(str(part) for part in loc) or "the document"
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return Fault(
                f"{name} is missing", "nothing", _known_keys(model, details["loc"]), document.where(loc)
            )
        case "extra_forbidden":
            wanted = _known_keys(model, details["loc"])
            return Fault(f"unknown key {loc[-1]!r}", name, wanted, document.where_key(loc))
        case "union_tag_not_found":
            return Fault(f"{name}.kind is missing", "nothing", "a key kind", document.where(loc))
        case "union_tag_invalid":
            tags = str(context["expected_tags"]).replace("'", "")
            where = document.where((*loc, "kind"))
            return Fault(f"{name}: unknown kind", str(context["tag"]), f"one of: {tags}", where)
        case "value_error":
            wanted = getattr(context["error"], "wanted", None)
            message = f"{name}: {context['error']}"
            return Fault(message, _short(details["input"]), wanted, document.where(loc))
    wanted = details["msg"].removeprefix("Input should be ")
    if loc and loc[-1] == _KEY:
        key = loc[:-1]
        return Fault(f"{key[-1]!r} is not a name", _short(key[-1]), wanted, document.where_key(key))
    return Fault(f"{name} is wrong", _short(details["input"]), wanted, document.where(loc))


def _written_loc(values: object, loc: Loc) -> Loc:
    """``loc`` as written: without the tag that pydantic adds where a union was told apart by ``kind``."""
    written: list[str | int] = []
    tag_may_follow = True
    for part in loc:
        if isinstance(values, dict):
            if tag_may_follow and values.get("kind") == part:
                tag_may_follow = False
                continue
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        tag_may_follow = True
        written.append(part)
    return tuple(written)


def _known_keys(model: type[BaseModel], loc: Loc) -> str | None:
    """The keys that may stand where ``loc`` ends, read from the model's JSON schema."""
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.get("$defs", {})
    here: dict[str, Any] = schema
    for part in loc[:-1]:
        if isinstance(part, int):
            here = here.get("items", {})
        elif part in (mapping := here.get("discriminator", {}).get("mapping", {})):
            here = {"$ref": mapping[part]}
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        if "$ref" in here:
            here = definitions[here["$ref"].rpartition("/")[2]]
    keys = here.get("properties", {})
    return f"keys: {', '.join(keys)}" if keys else None


def _short(value: object) -> str:
    """A wrong value as it was written; a secret key, put where its public half belongs, is not repeated."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if _SECRET.search(text):
        return "a secret key"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
