#!/usr/bin/python
"""The node's complete packet filter, declared, built by the real ufw, and loaded in one step.

How a change is made:

1. The real ufw builds the declared filter (``appliance_filter_build``) before anything is touched.
2. The files ufw wrote replace the node's, for the next boot and for ``ufw status``.
3. The kernel gets the filter of that namespace whole, one transaction per family (``iptables-restore``):
   there is no moment with half of the rules, none without them, and SSH is admitted in the same step in
   which the rest is denied.
4. Every other table goes, of iptables and of nftables: what translates, redirects or filters beside ufw's
   is nobody's declaration.
5. What is live, all of it, is compared with what was built.

A record of the declaration and of the result makes the next comparison cheap: same declaration, same files,
same live filter means unchanged, without asking ufw.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.appliance_filter_build import (
    ENVIRONMENT,
    FAMILIES,
    NFT,
    Refused,
    build,
    families,
    has_nft,
    read,
    run,
    write,
)
from ansible.module_utils.appliance_ruleset import (
    argv,
    flow_argv,
    nft_tables,
    normalise,
    normalise_nft,
    other_tables,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ufw_policy
short_description: Have exactly the declared packet filter, with ufw
description:
  - Declares the complete filter of the node, in both families. Rules and files of others do not survive.
options:
  files:
    description: ufw's files, text by path.
    type: dict
    required: true
  admitted:
    description: Where SSH is admitted, as the filter C(appliance_admit) gives it.
    type: list
    elements: dict
    required: true
  flows:
    description: Flows besides SSH, as the filter C(appliance_flows) gives them.
    type: list
    elements: dict
    default: []
  port:
    description: SSH's port.
    type: int
    default: 22
  rivals:
    description: Units that would load or flush a filter of their own; disabled and stopped where present.
    type: list
    elements: str
    default: []
  record:
    description: File that keeps the built filter for the next comparison.
    type: path
    required: true
  before_change:
    description: Command to run once just before the first change. When it fails nothing is changed.
    type: list
    elements: str
    default: []
  to_come:
    description: Whether ufw will be installed by then. Lets check mode go on where it is not installed yet.
    type: bool
    default: false
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Deny everything but management SSH
  ufw_policy:
    files: "{{ firewall_files }}"
    admitted:
      - {device: eno1, network: 10.20.0.0/28, version: 4}
    record: /var/lib/appliance/firewall.json
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
"""

#: Scripts that ufw.service would run at boot besides.
HOOKS = ("/etc/ufw/before.init", "/etc/ufw/after.init")

# --- comparing ---------------------------------------------------------------------------------


def declaration(parameters: dict[str, Any]) -> str:
    """Digest of everything that shapes the filter."""
    shape = [parameters["files"], ufw_rules(parameters), families(), has_nft()]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def ufw_rules(parameters: dict[str, Any]) -> list[list[str]]:
    """Arguments of ufw for everything that is admitted."""
    ssh = [argv(pair, parameters["port"]) for pair in parameters["admitted"]]
    return ssh + [flow_argv(rule) for rule in parameters["flows"]]


def live_filter() -> dict[str, str]:
    """Normalised rules by family, and all of nftables; empty what cannot be read, as on a clean node."""
    live = {"nft": normalise_nft(run(*NFT)) if has_nft() else ""}
    if not shutil.which("iptables-save", path=ENVIRONMENT["PATH"]):
        return {**live, **dict.fromkeys(families(), "")}
    return {**live, **{family: normalise(run(f"{FAMILIES[family]}-save")) for family in families()}}


def unit_states(units: list[str]) -> dict[str, str]:
    """``{unit: "enabled active"}`` of units that are enabled or active."""
    listing = run("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *units)
    states = {}
    for block in listing.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        words = [
            fields[key] for key in ("UnitFileState", "ActiveState") if fields[key] in {"enabled", "active"}
        ]
        if words:
            states[fields["Id"]] = " ".join(words)
    return states


def compare(
    wanted_files: dict[str, str], wanted_live: dict[str, str], rivals: list[str]
) -> list[dict[str, str]]:
    """What differs from the wanted filter: ``[{kind, subject, before, after}]``."""
    found = [("file", path, read(path), text) for path, text in wanted_files.items()]
    live = live_filter()
    found += [("live", family, live[family], rules) for family, rules in wanted_live.items()]
    found += [("hook", path, "is run at boot", "") for path in HOOKS if os.access(path, os.X_OK)]
    states = unit_states(["ufw.service", *rivals])
    found += [("unit", unit, states.get(unit, ""), "") for unit in rivals]
    found += [("unit", "ufw.service", states.get("ufw.service", ""), "enabled active")]
    keys = ("kind", "subject", "before", "after")
    return [dict(zip(keys, each, strict=True)) for each in found if each[2] != each[3]]


def recorded(path: str, digest: str) -> tuple[dict[str, str], dict[str, str]] | None:
    """``(files, live)`` of an earlier build of the same declaration, or None."""
    try:
        record = json.loads(read(path) or "{}")
    except ValueError:
        return None
    return (record["files"], record["live"]) if record.get("declaration") == digest else None


# --- changing ----------------------------------------------------------------------------------


def load(parameters: dict[str, Any], files: dict[str, str], live: dict[str, str]) -> None:
    """Make the filter the node's own.  Rivals stop first: some of them flush every rule when they stop."""
    states = unit_states(parameters["rivals"])
    for unit in parameters["rivals"]:
        if unit in states:
            run("systemctl", "disable", "--now", unit)
    for path in HOOKS:
        if os.access(path, os.X_OK):
            Path(path).chmod(0o640)
    for path, text in files.items():
        write(path, text, 0o640 if path.endswith(".rules") else 0o644)
    run("systemctl", "daemon-reload")  # the unit's own file says when the rules are loaded
    for family in families():
        run(f"{FAMILIES[family]}-restore", stdin=live[family])
    remove_others(live)
    run("systemctl", "enable", "--now", "ufw.service")
    left = compare(files, live, parameters["rivals"])
    if left:
        raise Refused("the filter is still not as declared: " + "; ".join(line(item) for item in left))


def remove_others(wanted: dict[str, str]) -> None:
    """Empty iptables' other tables and delete nftables' other ones, once ufw's rules are there."""
    there = live_filter()
    for family in families():
        for table in other_tables(there[family]):
            run(FAMILIES[family], "-t", table, "-F")
            run(FAMILIES[family], "-t", table, "-X")
    if "nft" in wanted:
        kept = nft_tables(wanted["nft"])
        for family, name in nft_tables(normalise_nft(run(*NFT))):
            if (family, name) not in kept:
                run("nft", "delete", "table", family, name)


def guard(command: list[str]) -> None:
    """Run ``before_change``."""
    if not command:
        return
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"nothing was changed, because {' '.join(command)} failed: {done.stderr.strip()}")


def bring_about(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    digest = declaration(parameters)
    files: dict[str, str]
    live: dict[str, str]
    known = recorded(parameters["record"], digest)
    if known and not compare(*known, parameters["rivals"]):
        return {"changed": False, "changes": [], "diff": []}
    if not shutil.which("ufw", path=ENVIRONMENT["PATH"]):
        if not (check and parameters["to_come"]):
            raise Refused("ufw is not installed on this node and not among the bundle's packages")
        files, live = parameters["files"], {}
    else:
        files, live = build(parameters["files"], ufw_rules(parameters))
    found = compare(files, live, parameters["rivals"])
    if not check:
        if found:
            guard(parameters["before_change"])
            load(parameters, files, live)
        text = json.dumps({"declaration": digest, "files": files, "live": live}, indent=1)
        write(parameters["record"], text, 0o600)
    lines, diffs = [line(item) for item in found], [diff(item) for item in found]
    return {"changed": bool(found), "changes": lines, "diff": diffs}


def line(item: dict[str, str]) -> str:
    """One difference in words."""
    if item["kind"] == "unit":
        return f"unit {item['subject']}: {item['before'] or 'off'} -> {item['after'] or 'off'}"
    if item["kind"] == "hook":
        return f"hook {item['subject']}: {item['before']}"
    return f"{item['kind']} {item['subject']}: {'differs' if item['before'] else 'absent'}"


def diff(item: dict[str, str]) -> dict[str, str]:
    """One Ansible diff."""
    header = f"{item['kind']} {item['subject']}"
    texts = {side: item[side].rstrip("\n") + "\n" for side in ("before", "after")}
    return {"before_header": header, "after_header": header, **texts}


def main() -> None:
    """Run as an Ansible module."""
    texts = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "admitted": {"type": "list", "elements": "dict", "required": True},
            "flows": {"type": "list", "elements": "dict", "default": []},
            "port": {"type": "int", "default": 22},
            "rivals": texts,
            "record": {"type": "path", "required": True},
            "before_change": texts,
            "to_come": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**bring_about(module.params, module.check_mode))
    except (Refused, OSError) as fault:
        module.fail_json(msg=str(fault))


if __name__ == "__main__":
    main()
