"""``appliance hardware``: what nodes are made of, and whether a definition could run on them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson, OnlyNodes  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.hardware.needs import HardwareNeeds
    from appliance.node.hardware import HardwareReport


def hardware(
    *,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", "-i", help="The inventory's folder, or its file.")
    ] = None,
    recorded: Annotated[
        list[Path] | None,
        typer.Option("--recorded", metavar="FILE", help="Judge what --keep wrote, without a node."),
    ] = None,
    definition: Annotated[
        Path | None,
        typer.Option("--definition", "-d", metavar="FILE", help="Judge by what this definition asks for."),
    ] = None,
    limit: OnlyNodes = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep what each node said, as NODE.hardware.json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at nodes' hardware. Changes nothing.

    GPUs, NVSwitches, PCI Express, NUMA, ECC, memory, disks, network cards, BMC,
    UEFI, secure boot, TPM, IOMMU, microcode: each as found and wanted. What a
    definition's section `hardware` asks for decides; without one, what is ailing.
    The same is done by `install` in preflight, with the driver and the kernel.

    \b
    Examples:
      appliance hardware -i my-site
      appliance hardware -i my-site -d bundles/h100-vllm.yaml --keep evidence/
      appliance hardware --recorded evidence/gpu-01.hardware.json --json

    \b
    Exit codes:
      0  everything is as wanted     3  definition or inventory is wrong
      5  a node is not as wanted, or cannot be asked
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.errors import Usage
    from appliance.node.hardware import hardware_text, hardware_values, refuse

    if (inventory is None) == (not recorded):
        raise Usage("nodes or recordings", wanted="--inventory or --recorded", hint="name one of the two")
    needs = _needs(definition)
    reports = _asked(inventory, limit or (), needs) if inventory else _read(recorded or [], needs)
    if keep is not None:
        _keep(keep, reports)
    print_result(hardware_text(reports), hardware_values(reports), as_json=as_json)
    if as_json:  # one object, with the verdict in it
        raise typer.Exit(5 if any(each.failed for each in reports) else 0)
    refuse(reports)


def _needs(definition: Path | None) -> HardwareNeeds | None:
    from appliance.errors import DefinitionInvalid
    from appliance.sources.definition_files import open_definition

    if definition is None:
        return None
    wanted = open_definition(definition).definition.hardware
    if wanted is None:
        raise DefinitionInvalid(
            f"{definition} asks for no particular hardware",
            wanted="a section hardware",
            hint="see docs/hardware.md",
        )
    return wanted.needs()


def _asked(
    inventory: Path, limit: Sequence[str], needs: HardwareNeeds | None
) -> tuple[HardwareReport, ...]:
    from appliance.node.connection import open_connections
    from appliance.node.hardware import look_at_hardware
    from appliance.node.private import private_folder
    from appliance.node.site import load_inventory, select_nodes

    site = load_inventory(inventory)
    nodes = select_nodes(site, tuple(limit))
    with private_folder() as private:
        connections = open_connections(site, nodes, private)
        try:
            return look_at_hardware(connections, needs)
        finally:
            for connection in connections.values():
                connection.close()


def _read(files: Sequence[Path], needs: HardwareNeeds | None) -> tuple[HardwareReport, ...]:
    import json

    from appliance.errors import Usage
    from appliance.node.hardware import report

    reports = []
    for file in files:
        try:
            gathered = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as fault:
            raise Usage(
                f"{file} is no recording", found=str(fault), wanted="a file that --keep wrote"
            ) from fault
        if not isinstance(gathered, dict):
            raise Usage(
                f"{file} is no recording", found="no JSON object", wanted="a file that --keep wrote"
            )
        reports.append(report(file.name.partition(".")[0], gathered, "", needs))
    return tuple(reports)


def _keep(folder: Path, reports: Sequence[HardwareReport]) -> None:
    import json

    from appliance.errors import Usage

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in reports:
            if each.gathered is not None:
                file = folder / f"{each.name}.hardware.json"
                file.write_text(
                    json.dumps(each.gathered, indent=1, sort_keys=True) + "\n", encoding="utf-8"
                )
    except OSError as fault:
        raise Usage(f"nothing can be kept in {folder}", found=fault.strerror) from fault
