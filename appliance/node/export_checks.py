"""The preflight checks of a node that exports: its card is there and free, the bundle has the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.bundle.manifest import Manifest
    from appliance.definition.inventory import Inventory, NodeEntry


def export_checks(
    node: NodeEntry, facts: Mapping[str, Any], manifest: Manifest, inventory: Inventory
) -> Iterator[Check]:
    """Nothing for a node that does not export."""
    if node.export is None:
        return
    place = str(inventory.where(("nodes", node.name, "export", "match")) or "")
    match = node.export.mac or node.export.pci
    there = [
        each for each in facts["interfaces"] if match in {each["mac"], each["pci"]} and not each["made"]
    ]
    taken = facts["export_line"] or {}
    is_up = match in {taken.get("mac"), taken.get("pci")}
    known = ", ".join(
        " ".join(filter(None, (each["name"], each["mac"], each["pci"]))) for each in facts["interfaces"]
    )
    yield Check(
        "export-card",
        len(there) == 1 or is_up,
        "up already, behind its walls" if is_up else known or "no interfaces",
        f"one card with {match}",
        "correct export.match, or plug in the card",
        where=place,
    )
    others = [
        interface.name
        for interface in node.interfaces
        for each in there
        if any(each[key] == value for key, value in interface.match.as_dict().items())
    ]
    yield Check(
        "export-card-free",
        not others,
        f"the card is {', '.join(others)}" if others else "no interface of the inventory is this card",
        "a card of its own: it goes into a namespace, and whoever comes over it is cut off",
        "give the export another card",
        where=place,
    )
    yield _toolkit(facts, manifest, str(inventory.where(("nodes", node.name, "export")) or ""))
    if node.export.sources.audit:
        where = ("nodes", node.name, "export", "sources", "audit")
        yield _auditd(facts, manifest, str(inventory.where(where) or ""))
    yield Check(
        "export-bpf",
        bool(facts["bpf"]),
        "the kernel runs BPF programs" if facts["bpf"] else "the kernel has no bpf(2)",
        "a kernel that drops frames by XDP",
        "boot the distribution's own kernel",
        where=place,
    )


def _auditd(facts: Mapping[str, Any], manifest: Manifest, place: str) -> Check:
    """Who writes the audit log is on the node, or comes with the bundle before the role looks for it."""
    package = "auditd"
    brought = any(
        file.name == package
        for component in manifest.components.values()
        if component.kind == "debian"
        for file in component.files
    )
    installed = facts["packages"].get(package)
    return Check(
        "export-auditd",
        brought or installed is not None,
        f"{package} {installed} on the node"
        if installed
        else f"{package} in the bundle"
        if brought
        else f"neither in the bundle nor on the node: {package}",
        f"{package}, for sources.audit: true",
        f"name {package} among the packages of a debian component, and build the bundle again; or take "
        "sources.audit out of the inventory",
        where=place,
    )


def _toolkit(facts: Mapping[str, Any], manifest: Manifest, place: str) -> Check:
    """The sender is this program, from the wheels that the bundle has for this node's Python."""
    python = ".".join(str(part) for part in facts["python"][:2])
    carried = {
        file.path.rpartition("/")[2]
        for component in manifest.components.values()
        if component.kind == "toolkit"
        for file in component.files
    }
    wanted = f"requirements-{python}.txt"  # as appliance.sources.toolkit names it
    found = (
        "no toolkit component"
        if not carried
        else ", ".join(sorted(n for n in carried if n.endswith(".txt")))
    )
    return Check(
        "export-toolkit",
        wanted in carried,
        f"the bundle has {found}",
        f"a toolkit component with {wanted}, which brings the sender",
        f"add to the bundle's definition a component of kind: toolkit whose pythons have {python}, and "
        "build it again; or take export out of the inventory",
        where=place,
    )
