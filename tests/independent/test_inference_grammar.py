"""What a manifest says of how a model is served: docs/format.md's grammar and the program agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import manifest_bytes, parse_manifest
from appliance.errors import BundleMalformed
from appliance.trust.canonical import canonical_bytes
from tests.independent.verifier import canonical

if TYPE_CHECKING:
    from pathlib import Path

CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"context": 8192, "eager": True, "precision": "bf16", "sequences": 16}, True),
    *(({"context": value}, True) for value in (1, 256, 9_999_999)),
    *(({"context": value}, False) for value in (0, -1, 10_000_000, "8192", None, True)),
    *(({"sequences": value}, True) for value in (1, 1024, 9_999)),
    *(({"sequences": value}, False) for value in (0, 10_000, "1", None)),
    *(({"precision": value}, True) for value in ("bf16", "fp16", "fp32")),
    *(({"precision": value}, False) for value in ("", "int4", "BF16", "auto", None, 16)),
    *(({"eager": value}, False) for value in (False, 1, "true", None)),
    ({"eager": True}, True),
    ({"sequences": 8, "task": "transcription"}, True),
    *(({"task": value}, False) for value in ("", "chat", "Transcription", None, True)),
    ({"trust_remote_code": True}, False),
]


@pytest.mark.parametrize(("more", "right"), CASES, ids=lambda case: json.dumps(case, default=str)[:40])
def test_grammar_and_program_agree(more: dict[str, Any], *, right: bool, pristine_bundle: Path) -> None:
    values = json.loads((pristine_bundle / "manifest.json").read_bytes())
    values["inference"] |= more
    data = canonical_bytes(values)
    if right:
        manifest = parse_manifest(data)
        assert manifest_bytes(manifest) == data
        assert canonical(data, "manifest")["inference"] == values["inference"]
        return
    with pytest.raises(BundleMalformed):
        parse_manifest(data)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it raises refuses
        canonical(data, "manifest")
