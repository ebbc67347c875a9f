"""What a manifest says of a machine: docs/format.md's grammar and the program agree about each case."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.errors import BundleMalformed
from appliance.trust.canonical import canonical_bytes
from tests.independent.verifier import canonical

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "firmware": ["iommu", "memory-ecc", "secure-boot", "tpm2", "uefi"],
    "gpu": "h100-sxm",
    "gpus": 8,
    "memory_gib": 512,
    "mig": "all-3g.40gb",
    "nvswitches": 4,
    "patch_gb": 150,
    "tensor_parallel": 8,
}
CASES: list[tuple[dict[str, Any], bool]] = [
    *(({key: value}, True) for key in ("gpus", "tensor_parallel") for value in (1, 9, 10, 16)),
    *(({key: value}, False) for key in ("gpus", "tensor_parallel") for value in (0, 17, -1, "1", 1.5)),
    *(({"nvswitches": value}, True) for value in (0, 16)),
    *(({"nvswitches": value}, False) for value in (17, 100, None)),
    *(({key: value}, True) for key in ("memory_gib", "patch_gb") for value in (0, 2**53 - 1)),
    *(({key: -1}, False) for key in ("memory_gib", "patch_gb")),
    *(({"firmware": value}, True) for value in ([], ["uefi"], ["iommu", "uefi"], ["memory-ecc", "tpm2"])),
    *(
        ({"firmware": value}, False)
        for value in (["uefi", "tpm2"], ["uefi"] * 2, ["bios"], [""], [["uefi"]], "uefi", None)
    ),
    *(({"mig": value}, True) for value in (..., "7g.80gb", "3g.40gb,2*2g.20gb", "a" * 200)),
    *(({"mig": value}, False) for value in ("", "a" * 201, "A", ",", "1g 10gb", None)),
    *(({"driver": value}, True) for value in (100, 550, 9999)),
    *(({"driver": value}, False) for value in (0, 99, 10000, "550", None)),
    *(({"disk_gb": value}, True) for value in (1, 1900, 2**53 - 1)),
    *(({"nic_gbps": value}, True) for value in (1, 400, 9999)),
    *(({key: value}, False) for key in ("disk_gb", "nic_gbps") for value in (0, -1, "25", None)),
    *(({key: value}, False) for key, value in (("nic_gbps", 10000), ("disk_gb", 1.5))),
    *(({"firmware": [word]}, True) for word in ("bmc", "microcode", "numa")),
    ({"disk_gb": 1, "driver": 550, "nic_gbps": 25, "mig": "7g.80gb"}, True),
    *(({"gpu": value}, False) for value in (..., "", "H100", "a" * 65)),
    ({"cpus": 1}, False),
]


@pytest.mark.parametrize(("changes", "right"), CASES, ids=lambda case: json.dumps(case, default=str)[:40])
def test_grammar_and_program_agree(changes: dict[str, Any], *, right: bool, pristine_bundle: Path) -> None:
    values = json.loads((pristine_bundle / "manifest.json").read_bytes())
    values["hardware"] = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    if any(isinstance(value, float) for value in changes.values()):
        data = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    else:
        data = canonical_bytes(values)
    if right:
        assert parse_manifest(data).hardware is not None
        assert canonical(data, "manifest")["hardware"] == values["hardware"]
        return
    with pytest.raises(BundleMalformed):
        parse_manifest(data)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it raises refuses
        canonical(data, "manifest")
