#!/usr/bin/python
"""Have the program that undoes an unconfirmed network change, and confirm a change.

Arming is not done here: whoever changes the network runs the program's ``arm`` just before the first
change (``network_isolation_before_change``, ``firewall_before_change``), so that a run without changes
arms nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: timed_revert
short_description: Have the program that undoes unconfirmed network changes, and confirm a change
description:
  - C(state=ready) installs the program and gives a change that is still pending its full time again.
  - C(state=confirmed) accepts the pending change. Run it over a fresh connection.
options:
  state:
    description: What to bring about.
    type: str
    choices: [ready, confirmed]
    required: true
  path:
    description: Where the program lies on the node.
    type: path
    required: true
  files:
    description: The program and what it is made of, text by path, for C(state=ready).
    type: dict
  after:
    description: Seconds until an unconfirmed change is undone, for C(state=ready).
    type: int
  run:
    description: For C(state=confirmed), the name under which this run armed, as C(state=ready) returned it.
    type: str
  fresh:
    description: For C(state=confirmed), whether only an SSH connection younger than the change counts.
    type: bool
    default: true
  required:
    description: For C(state=confirmed), whether a change must be pending, because this run made it.
    type: bool
    default: false
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Confirm the change over a fresh connection
  timed_revert:
    state: confirmed
    path: /usr/local/sbin/appliance-revert
    run: "{{ revert_found.run }}"
    required: true
"""

RETURN = r"""
pending:
  description: Whether an unconfirmed change was found.
  returned: always
  type: bool
run:
  description: The name under which this run arms and has to confirm, for C(state=ready).
  returned: success
  type: str
fired:
  description: The record of a change that was undone and not followed by a confirmed run yet, or null.
  returned: always
  type: dict
"""


class Fault(Exception):
    """The program is missing or failed; the text says what it wrote."""


def ask(path: str, *arguments: str) -> dict[str, Any]:
    """The program's JSON answer."""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    except OSError as fault:
        raise Fault(f"{path} cannot be run: {fault}") from fault
    try:
        return dict(json.loads(done.stdout))
    except ValueError as fault:
        words = " ".join([path, *arguments])
        raise Fault(f"{words} ended with {done.returncode}: {done.stderr.strip()}") from fault


def read(path: str) -> str:
    """Text of a file, empty when there is none."""
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return ""


def install(texts: dict[str, str]) -> None:
    """Write files of the program whole, for root to run.

    A timer that runs needs them to fit each other: all are on the disk before the first gets its name.
    """
    drafts = {}
    for path, text in texts.items():
        folder = Path(path).parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, drafts[path] = tempfile.mkstemp(dir=folder, prefix=".appliance-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o700)
            os.fsync(descriptor)
    for path, draft in drafts.items():
        Path(draft).replace(path)
    for folder in {Path(path).parent for path in texts}:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def undone(fired: dict[str, Any]) -> str:
    """The sentence that tells an operator about a change that was undone."""
    faults = fired.get("faults") or []
    trouble = f" with trouble ({'; '.join(faults)})" if faults else ""
    return (
        f"a network change armed at {fired['armed']} was never confirmed and was undone at "
        f"{fired['fired']} (the node's clock){trouble}; what had been saved is in "
        "/var/lib/appliance/revert/last"
    )


def ready(module: AnsibleModule, path: str) -> dict[str, Any]:
    """Install the program; renew what is pending; tell what fired."""
    wanted = module.params["files"]
    before = {each: read(each) for each in wanted}
    wrong = [each for each, text in wanted.items() if before[each] != text or not os.access(each, os.X_OK)]
    if not module.check_mode:
        install({each: wanted[each] for each in wrong})
    run = uuid.uuid4().hex
    state = ask(path, "status") if os.access(path, os.X_OK) else {"pending": False, "fired": None}
    if state["pending"] and not module.check_mode:
        ask(path, "arm", "--after", str(module.params["after"]), "--run", run)
    if state["fired"]:
        module.warn(undone(state["fired"]))
    diff = [
        {"before_header": each, "after_header": each, "before": before[each], "after": wanted[each]}
        for each in wrong
    ]
    return {
        "changed": bool(wrong),
        "pending": state["pending"],
        "run": run,
        "fired": state["fired"],
        "diff": diff,
    }


def confirmed(module: AnsibleModule, path: str) -> dict[str, Any]:
    """Accept the pending change; a change that must be pending and is not was undone meanwhile."""
    if module.check_mode:
        return {"changed": False, "pending": False, "fired": None}
    words = ["--run", module.params["run"]] if module.params["run"] else []
    state = ask(path, "confirm", *words, *(["--fresh"] if module.params["fresh"] else []))
    if state["refused"]:
        raise Fault(f"the confirmation does not count, and the change will be undone: {state['refused']}")
    if module.params["required"] and not state["confirmed"]:
        told = undone(state["fired"]) if state["fired"] else "no change is pending"
        raise Fault(f"the change of this run cannot be confirmed: {told}")
    return {"changed": state["confirmed"], "pending": state["confirmed"], "fired": state["fired"]}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["ready", "confirmed"], "required": True},
            "path": {"type": "path", "required": True},
            "files": {"type": "dict"},
            "after": {"type": "int"},
            "run": {"type": "str"},
            "fresh": {"type": "bool", "default": True},
            "required": {"type": "bool", "default": False},
        },
        required_if=[("state", "ready", ("files", "after"))],
        supports_check_mode=True,
    )
    bring_about = ready if module.params["state"] == "ready" else confirmed
    try:
        module.exit_json(**bring_about(module, module.params["path"]))
    except (Fault, OSError) as fault:
        module.fail_json(msg=str(fault))


if __name__ == "__main__":
    main()
