"""``hardware:`` of a definition, a lock and a manifest: what no machine can have is refused at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.bundle.manifest import parse_manifest
from appliance.definition.bundle_definition import read_definition
from appliance.definition.hardware import Hardware
from appliance.definition.lock import lock_text, parse_lock
from appliance.errors import (
    ApplianceError,
    DefinitionInvalid,
    GpusTooFew,
    GpuUnknown,
    MigLayoutInvalid,
    ParallelismImpossible,
)
from appliance.hardware.needs import HardwareNeeds
from appliance.planning.settings import read_settings

if TYPE_CHECKING:
    from tests.conftest import BundleMaker, Holders

BUNDLES = Path(__file__).parents[3] / "bundles"
DEMO = BUNDLES / "demo.yaml"
FULL = {
    "gpu": "h100-sxm",
    "gpus": 8,
    "tensor_parallel": 4,
    "nvswitches": 4,
    "memory_gib": 2048,
    "patch_gb": 150,
    "firmware": ["uefi", "tpm2", "memory-ecc"],
    "driver": 550,
    "disk_gb": 1900,
    "nic_gbps": 25,
}
NEEDS = HardwareNeeds("h100-sxm", 8, 4, "", 4, 2048, 150, ("memory-ecc", "tpm2", "uefi"), 550, 1900, 25)


def read(hardware: object) -> Hardware | None:
    text = yaml.safe_dump({**yaml.safe_load(DEMO.read_text()), "hardware": hardware})
    return read_definition(text.encode(), "x.yaml").definition.hardware


def test_needs_are_read_with_words_in_order() -> None:
    found = read(FULL)
    assert found is not None
    assert found.needs() == NEEDS


def test_only_the_gpus_must_be_said() -> None:
    found = read({"gpu": "l40s", "gpus": 1})
    assert found is not None
    assert found.needs() == HardwareNeeds("l40s", 1)
    assert read_definition(DEMO.read_bytes(), "x").definition.hardware is None


SLICED = {"gpu": "h100-sxm", "gpus": 1, "mig": "all-3g.40gb"}
WRONG: dict[str, tuple[object, type[ApplianceError]]] = {
    "no GPU of this name": ({**FULL, "gpu": "h100"}, GpuUnknown),
    "more parts than GPUs": ({**FULL, "tensor_parallel": 16}, GpusTooFew),
    "a slice of another GPU": ({**SLICED, "mig": "all-1g.5gb"}, MigLayoutInvalid),
    "slices without a place": ({**SLICED, "mig": "4g.40gb,4g.40gb"}, MigLayoutInvalid),
    "slices of a GPU without": ({**SLICED, "gpu": "l40s"}, MigLayoutInvalid),
    "slices joined": ({**SLICED, "gpus": 2, "tensor_parallel": 2}, ParallelismImpossible),
    "no number": ({"gpu": "h100-sxm"}, DefinitionInvalid),
    "no GPU": ({"gpu": "h100-sxm", "gpus": 0}, DefinitionInvalid),
    "seventeen GPUs": ({"gpu": "h100-sxm", "gpus": 17}, DefinitionInvalid),
    "a number as text": ({**FULL, "gpus": "8"}, DefinitionInvalid),
    "memory below nothing": ({**FULL, "memory_gib": -1}, DefinitionInvalid),
    "a driver's whole version": ({**FULL, "driver": "550.163.01"}, DefinitionInvalid),
    "a driver that is no branch": ({**FULL, "driver": 12}, DefinitionInvalid),
    "a disk of nothing": ({**FULL, "disk_gb": 0}, DefinitionInvalid),
    "a disk with its unit": ({**FULL, "disk_gb": "1900 GB"}, DefinitionInvalid),
    "a link of nothing": ({**FULL, "nic_gbps": 0}, DefinitionInvalid),
    "a link that no card has": ({**FULL, "nic_gbps": 25000}, DefinitionInvalid),
    "an unknown word": ({**FULL, "firmware": ["uefi", "coreboot"]}, DefinitionInvalid),
    "a word twice": ({**FULL, "firmware": ["uefi", "uefi"]}, DefinitionInvalid),
    "an unknown key": ({**FULL, "cpus": 2}, DefinitionInvalid),
    "a list": ([FULL], DefinitionInvalid),
}


@pytest.mark.parametrize(("hardware", "error"), WRONG.values(), ids=WRONG)
def test_what_no_machine_can_have_is_named_with_its_place(
    hardware: object, error: type[ApplianceError]
) -> None:
    with pytest.raises(error) as caught:
        read(hardware)
    assert type(caught.value) is error
    assert caught.value.exit_code == 3
    assert str(caught.value.where).startswith("x.yaml:")
    assert caught.value.where != "x.yaml:1:1"


def test_a_lock_and_a_manifest_carry_them(maker: BundleMaker, holders: Holders) -> None:
    lock = maker.lock()
    assert "hardware" not in lock_text(lock)
    asking = lock.model_copy(update={"hardware": Hardware(**FULL)})
    assert parse_lock(lock_text(asking)) == asking
    bundle = maker.write("asking", holders.root("alice", "bob"), asking)
    assert parse_manifest((bundle / "manifest.json").read_bytes()).hardware == NEEDS
    cut = lock.model_copy(update={"hardware": Hardware(**SLICED)})
    bundle = maker.write("cut", holders.root("alice", "bob"), cut)
    found = parse_manifest((bundle / "manifest.json").read_bytes()).hardware
    assert found == HardwareNeeds("h100-sxm", 1, mig="all-3g.40gb")


def definitions() -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted(BUNDLES.glob("*.yaml"))]


@pytest.mark.parametrize("path", definitions())
def test_every_definition_that_ships_is_valid(path: Path) -> None:
    read_definition(path.read_bytes(), path)


def test_the_definition_for_debian_13_is_that_for_12_with_another_driver() -> None:
    """Two files that are to stay one: whoever mends the first is told of the second."""
    twelve, thirteen = (
        yaml.safe_load((BUNDLES / f"{name}.yaml").read_text()) for name in ("h100-vllm", "h100-vllm-trixie")
    )
    assert thirteen["target"] == {**twelve["target"], "suite": "trixie", "python": "3.13"}
    old, new = (set(each["components"]["system"].pop("packages")) for each in (twelve, thirteen))
    parts = ("libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1", "nvidia-kernel-dkms", "nvidia-smi")
    assert old - new == set(parts)
    renamed = {re.sub(r"nvidia-(?=kernel|smi)", "nvidia-tesla-535-", part) for part in parts[3:]}
    libraries = {f"libnvidia-tesla-535-{part}" for part in ("cfg1", "cuda1", "ml1", "ptxjitcompiler1")}
    assert new - old == renamed | libraries
    for each in (twelve, thirteen):
        del each["target"], each["product"]
    assert thirteen == twelve


@pytest.mark.parametrize(
    ("definition", "plan"),
    [
        ("h100-vllm", "8b"),
        ("h100-vllm-trixie", "8b"),
        ("h100-70b", "70b"),
        ("h100-whisper", "speech"),
        ("h100-ollama", "ollama"),
    ],
)
def test_a_definition_asks_for_the_machine_that_its_plan_is_for(definition: str, plan: str) -> None:
    path = BUNDLES / f"{definition}.yaml"
    hardware = read_definition(path.read_bytes(), path).definition.hardware
    settings = read_settings((BUNDLES / f"plans/{plan}.yaml").read_bytes(), plan)
    assert hardware is not None
    assert (hardware.gpu, hardware.gpus) == (settings.gpu, settings.gpus)
    assert hardware.tensor_parallel == (settings.tensor_parallel or 1)
    assert hardware.mig in {None, settings.mig or f"all-{settings.slice}"}, "a whole GPU holds more"
    assert settings.precision is not None
    assert settings.precision.resolved().weight_bits == 16
    served = read_definition(path.read_bytes(), path).definition.inference
    assert (served.context, served.sequences) == (settings.context, settings.sequences)
