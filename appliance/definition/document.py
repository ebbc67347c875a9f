"""A YAML file an operator edits, read with positions.

The language is YAML 1.2's core schema without the parts that surprise or exhaust a reader: no
anchors or aliases, no tags, one document, keys are text and appear once.  ``no`` is the text "no" and
``12:30:00:00:00:01`` a MAC address, not a base-60 number, as YAML 1.1 would have it.

Nothing here opens a file: callers hand over text and the name it goes by.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import yaml

from appliance.errors import ApplianceError, Location

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel

Loc = tuple[str | int, ...]
M = TypeVar("M", bound="BaseModel")

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 16


@dataclass(frozen=True)
class Document:
    """Plain values, and where each of them stands.

    ``values`` holds dicts with text keys, lists, text, numbers, booleans and None.
    """

    path: Path | str
    values: object
    _values_at: Mapping[Loc, tuple[int, int]]
    _keys_at: Mapping[Loc, tuple[int, int]]

    def where(self, loc: Loc) -> Location:
        """Where the value at ``loc`` begins; for a missing one, where the nearest enclosing one does."""
        while loc and loc not in self._values_at:
            loc = loc[:-1]
        return Location(self.path, *self._values_at[loc])

    def where_key(self, loc: Loc) -> Location:
        """Where the key that ``loc`` ends with stands; as ``where`` for what has no key."""
        position = self._keys_at.get(loc)
        return Location(self.path, *position) if position else self.where(loc)


def read_document(text: str, path: Path | str, error: type[ApplianceError]) -> Document:
    """Parse ``text``; ``path`` is its name in messages, ``error`` the class raised for what is wrong."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise error(
            f"{path} is too large to be written by a person",
            found=f"more than {MAX_BYTES} bytes",
            wanted=f"at most {MAX_BYTES} bytes",
            where=Location(path, 1, 1),
        )
    values_at: dict[Loc, tuple[int, int]] = {}
    keys_at: dict[Loc, tuple[int, int]] = {}
    try:
        node = _Reader(text).get_single_node()
        if node is None:
            raise error(f"{path} is empty", where=Location(path, 1, 1))
        values = _plain(node, (), values_at, keys_at)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = Location(path, mark.line + 1, mark.column + 1) if mark else Location(path, 1, 1)
        problem = fault.problem or fault.context or "malformed YAML"
        raise error(f"not readable: {problem}", found=fault.note, where=where) from fault
    except yaml.reader.ReaderError as fault:
        before = text[: fault.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise error(
            "not readable: a character that no text file may hold",
            found=f"U+{fault.character:04X}",
            where=Location(path, line, column),
        ) from fault
    return Document(path, values, values_at, keys_at)


class _Reader(yaml.SafeLoader):
    """PyYAML's parser and composer with the core schema, no reuse, no tags and bounded depth."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it bare
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse("anchors and aliases are not allowed; write the value out", mark)
        if getattr(event, "tag", None) is not None:
            _refuse("tags are not allowed; write the plain value", mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(f"nested deeper than {MAX_DEPTH} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


# YAML 1.2.2, section 10.3.2, without octal, hexadecimal, infinities and not-a-number.
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _plain(
    node: yaml.Node,
    loc: Loc,
    values_at: dict[Loc, tuple[int, int]],
    keys_at: dict[Loc, tuple[int, int]],
) -> object:
    """The plain value of ``node``; positions of it and all below are entered into both tables."""
    values_at[loc] = _position(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*loc, index), values_at, keys_at) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                _refuse("a key must be text", key_node.start_mark)
            below = (*loc, key)
            if key in mapping:
                first = keys_at[below]
                _refuse(f"key {key!r} is written twice; first on line {first[0]}", key_node.start_mark)
            keys_at[below] = _position(key_node.start_mark)
            mapping[key] = _plain(value_node, below, values_at, keys_at)
        return mapping
    return _scalar(node)


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    text: str = node.value
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        text.encode()  # a lone surrogate, written as an escape, is no text
        if kind == "int":
            return int(text)  # raises on thousands of digits
    except ValueError:
        _refuse("neither text nor a number of reasonable length", node.start_mark)
    if kind == "bool":
        return text.lower() == "true"
    if kind == "float":
        return float(text)
    return None if kind == "null" else text


def _position(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _refuse(problem: str, mark: yaml.Mark) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def validate_document(document: Document, model: type[M], error: type[ApplianceError]) -> M:
    """Build ``model`` from a document, or raise ``error`` at the first place that does not fit.

    The values pass through JSON, so that strict models take lists for tuples and text for addresses,
    and nothing else is converted.  Unions of our models are told apart by the key ``kind``.
    """
    from pydantic import ValidationError

    from appliance.definition.faults import explain

    try:
        return model.model_validate_json(json.dumps(document.values), strict=True)
    except ValidationError as fault:
        entries = fault.errors(include_url=False)
        inner = {details["loc"][:end] for details in entries for end in range(len(details["loc"]))}
        faults = sorted(
            # A list whose items are wrong is also found to be too short: that follows, and says nothing.
            (explain(document, model, details) for details in entries if details["loc"] not in inner),
            key=lambda entry: (entry.where.line, entry.where.column),
        )
    first, *others = faults
    raise error(
        first.message,
        found=first.found,
        wanted=first.wanted,
        hint="; ".join(["also wrong:", *(f"{other.where}: {other.message}" for other in others[:4])])
        if others
        else None,
        where=first.where,
    )
