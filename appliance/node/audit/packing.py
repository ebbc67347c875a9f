"""Makes the one file that a node audits itself with, and what it is told of its inventory.

The file is a zip application (``python3 FILE``, zipapp of the standard library): the very modules that the
station's audit concludes by, and none that need more than the standard library.  So there is one
comparison, and the code that compares is of the version that took the baseline (docs/decisions/0052).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import appliance
from appliance.definition.inventory_record import inventory_record
from appliance.node.audit.daily import DATA, FORMAT
from appliance.node.role_values import role_values
from appliance.stored_zip import stored_zip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Inventory, NodeEntry

_MAIN: Final = b"""\
from appliance.node.audit.daily import main

raise SystemExit(main())
"""

#: Every module that runs, as its path below the package; tests compare it with what is imported.
MODULES: Final = (
    "__init__.py",
    "bundle/__init__.py",
    "bundle/durable.py",
    *(f"definition/{name}.py" for name in ("__init__", "disks", "export", "host", "inventory")),
    "definition/inventory_record.py",
    "definition/partition.py",
    *(
        f"errors/{name}.py"
        for name in ("__init__", "base", "outcomes", "unfit", "unready", "untrusted", "written")
    ),
    *(f"hardware/{name}.py" for name in ("__init__", "mig_parted", "smi_list")),
    *(f"node/{name}.py" for name in ("__init__", "connection", "host_data", "question", "script")),
    *(f"node/audit/{name}.py" for name in ("__init__", "asking", "auditing", "baseline", "comparing")),
    *(f"node/audit/{name}.py" for name in ("concluding", "daily", "declared", "drift", "handing_over")),
    *(f"node/audit/{name}.py" for name in ("present", "results", "staged", "state")),
    *(f"node/qualification/{name}.py" for name in ("__init__", "autostart", "clock", "daily", "escapes")),
    *(f"node/qualification/{name}.py" for name in ("finding", "flows", "gpus", "installed", "kernel")),
    *(f"node/qualification/{name}.py" for name in ("links", "routes", "rules", "server", "service")),
    *(f"node/qualification/{name}.py" for name in ("sockets", "storage", "tries")),
    *(f"node/remote/{name}.py" for name in ("__init__", "audit", "copy_state", "file_state")),
    *(f"node/remote/{name}.py" for name in ("host_state", "staged_copy")),
)


def pack_auditor() -> bytes:
    """The program; the same toolkit makes the same bytes."""
    package = Path(appliance.__file__).parent
    files = {f"appliance/{path}": (package / path).read_bytes() for path in MODULES}
    files["__main__.py"] = _MAIN
    files[f"appliance/node/audit/{DATA}"] = json.dumps(role_values(), sort_keys=True).encode()
    return stored_zip(files)


def node_settings(inventory: Inventory, node: NodeEntry) -> str:
    """What the program on this node is told, as the text of its file."""
    declared = inventory_record(inventory, node)
    declared["node"]["connection"] = "local"  # whoever asks is there
    declared["path"] = ""  # a folder of the station's
    return json.dumps({"format": FORMAT, "declared": declared}, indent=1, sort_keys=True) + "\n"


def auditor_variables(inventory: Inventory, nodes: Sequence[NodeEntry]) -> dict[str, dict[str, Any]]:
    """``appliance_auditor`` for each node, as playbooks/site.yml takes it, where an audit is asked for."""
    if not inventory.host.audit.daily:
        return {}
    program = base64.b64encode(pack_auditor()).decode()
    return {
        node.name: {"appliance_auditor": {"program": program, "settings": node_settings(inventory, node)}}
        for node in nodes
    }
