"""``appliance history``: what was done to nodes, by whom, when, from which medium, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
)
from appliance.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.node.patching.history import NodeHistory
    from appliance.node.patching.switch import Waits

_DIGITS = 12


def history(*, inventory: InventoryFolder, limit: OnlyNodes = None, as_json: AsJson = False) -> None:
    """Tell what was installed, patched and rolled back on nodes, by their own record.

    Each line says when (by the node's clock), from which version to which, who
    asked for it at which station, from which medium, who signed it, and whether
    it was proven or went back, and why.

    \b
    Examples:
      appliance history -i my-site
      appliance history -i my-site --limit gpu-01 --json

    \b
    Exit codes:
      0  asked, whatever was found        3  the inventory is wrong
      6  a node cannot be reached         7  a node cannot tell
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.node.patching.history import read_histories
    from appliance.node.site import load_inventory

    found = read_histories(load_inventory(inventory), tuple(limit or ()))
    values = {"nodes": {each.node: _values(each) for each in found}}
    print_result("\n".join(line for each in found for line in _lines(each)), values, as_json=as_json)
    for each in found:
        if each.trouble:
            raise typer.Exit(each.trouble.exit_code)


def _values(found: NodeHistory) -> dict[str, object]:
    if found.trouble:
        return found.trouble.as_dict()
    waits = found.waits
    restart = {"late": list(waits.late), "reboot": waits.reboot, "former": waits.former}
    return {
        "pending": waits.pending,
        "restart": restart if waits.late else None,
        "history": list(found.lines),
    }


def _lines(found: NodeHistory) -> Iterator[str]:
    if found.trouble:
        yield f"{found.node}: {found.trouble.message}"
        return
    yield f"{found.node}: " + ("" if found.lines else "nothing was done yet")
    for line in found.lines:
        yield f"  {_word(line, 'time')}  {_word(line, 'action'):8}  {_step(line)}: {_end(line)}"
        yield f"    by {_word(line, 'by')}, signed by {_word(line, 'signers')}"
        if line.get("medium"):
            yield f"    from {_word(line, 'medium')}"
    if found.waits.late:
        yield f"  {printable(str(found.waits))}"
    if found.waits.pending:
        yield f"  not proven yet: {_step(found.waits.pending)}; {_when(found.waits)}"


def _when(waits: Waits) -> str:
    forever = waits.late and not waits.reboot and not waits.former
    return "its time begins with the restart" if forever else "it goes back by itself"


def _step(line: Mapping[str, Any]) -> str:
    before, after = line.get("from"), line.get("to")
    came = f"{_version(before)}) to " if isinstance(before, dict) else ""
    after = after if isinstance(after, dict) else {}
    return f"{_word(line, 'product')} {came}{_version(after)}, {_word(after, 'digest')[:_DIGITS]})"


def _version(said: Mapping[str, Any]) -> str:
    return f"{_word(said, 'version')} (sequence {_word(said, 'sequence')}"


def _end(line: Mapping[str, Any]) -> str:
    return _word(line, "result") + (f": {_word(line, 'reason')}" if line.get("reason") else "")


def _word(said: Mapping[str, Any], key: str) -> str:
    """A value as the node spelled it, whatever it is: nodes say of themselves what they like."""
    found = said.get(key)
    text = ", ".join(str(each) for each in found) if isinstance(found, list) else str(found)
    if found in (None, "", []):
        return "-"
    return text if text.isprintable() else ascii(text)
