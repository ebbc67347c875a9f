#!/usr/bin/python
"""Settings of the SSH server, taken over only if the real sshd accepts the whole of its configuration.

How a change is made:

1. In a mount namespace of its own the new file stands where it will stand.  There the real sshd tests
   the configuration (``sshd -t``) and says what would hold (``sshd -T``).  What it does not accept, or
   what an earlier file would overrule, is refused before anything is touched.
2. The command that arms the timed revert runs; when it fails, nothing is changed.
3. The file is replaced whole, and a running server reads it again.  Open sessions live on.

Neither port, addresses, users nor keys are among the settings, so whoever came in by a key still does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: sshd_settings
short_description: Have settings of the SSH server, tested by the real sshd before they replace others
description:
  - Writes a file below C(sshd_config.d) that comes before all others; sshd keeps the first value it reads.
options:
  settings:
    description: Value by keyword, in the order in which they are written.
    type: dict
    required: true
  newer:
    description: Settings that older servers do not know, value by keyword; left out where they are unknown.
    type: dict
    default: {}
  path:
    description: The file.
    type: path
    required: true
  before_change:
    description: Command to run once just before the change. When it fails nothing is changed.
    type: list
    elements: str
    default: []
  to_come:
    description: Whether openssh-server will be installed by then; lets check mode go on without it.
    type: bool
    default: false
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Let in by keys alone
  sshd_settings:
    settings: {PasswordAuthentication: "no"}
    path: /etc/ssh/sshd_config.d/00-appliance.conf
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
"""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

#: sshd refuses to test anything without it; there it is the server's own, made when it starts.
PRIVILEGE_SEPARATION = Path("/run/sshd")

#: What sshd -T calls some values, beside what people write (servconf.c prints the first name it knows).
SAME = {"prohibit-password": "without-password"}


class Refused(Exception):
    """sshd does not accept the configuration, or would not follow it; the text says why."""


def text(settings: dict[str, str]) -> str:
    """The file."""
    lines = [f"{keyword} {value}\n" for keyword, value in settings.items()]
    return "".join(["# Written by the role quiet_host. sshd keeps the first value it reads.\n", *lines])


def read(path: str) -> str:
    """A file's text; empty when there is none."""
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """The finished command; its failure is the caller's to judge."""
    return subprocess.run(
        command,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def effective(listing: str) -> dict[str, str]:
    """What ``sshd -T`` prints: value by keyword in small letters; the first of several."""
    found: dict[str, str] = {}
    for line in listing.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, value.strip())
    return found


def overruled(settings: dict[str, str], found: dict[str, str]) -> list[str]:
    """Settings that would not hold, one line each.

    A value that takes away from sshd's own list (``-*cbc``) is judged by what is left in the list.
    """
    wrong = []
    for keyword, value in settings.items():
        there = found.get(keyword.lower(), "")
        if value.startswith("-"):
            endings = [pattern.strip("*") for pattern in value[1:].split(",")]
            left = [name for name in there.split(",") if any(end in name for end in endings)]
            if left or not there:
                wrong.append(f"{keyword} would still allow {', '.join(left) or 'nobody knows what'}")
        elif SAME.get(value, value).lower() != there.lower():
            wrong.append(f"{keyword} would be {there or 'unknown'}, not {value}")
    return wrong


def known() -> set[str]:
    """Keywords of this server, in small letters; none where it refuses its configuration as it is."""
    PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    return set(effective(run("sshd", "-T").stdout))


def judge(path: str, new: str, settings: dict[str, str]) -> None:
    """Let the real sshd read its whole configuration with the new file in place, in a namespace of its own.

    Raises:
        Refused: it does not accept it, or does not follow it.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise Refused(f"there is no {folder}: this SSH server does not read such files")
    with tempfile.TemporaryDirectory(prefix="appliance-sshd-", dir="/run") as draft:
        copies = Path(draft, folder.name)
        shutil.copytree(folder, copies, symlinks=True)
        Path(copies, Path(path).name).write_text(new, "utf-8")
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        script = "\n".join(
            [shlex.join(["mount", "--bind", str(copies), str(folder)]), "sshd -t", "exec sshd -T"]
        )
        done = run("unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", script)
    if done.returncode:
        told = done.stderr.strip().replace(draft, "")
        raise Refused(f"sshd does not accept the new configuration; the old one stays: {told}")
    wrong = overruled(settings, effective(done.stdout))
    if wrong:
        raise Refused(
            f"sshd would not follow {path}; the old configuration stays: {'; '.join(wrong)}. A file that "
            f"is read earlier says otherwise, or sshd_config has no line `Include {folder}/*.conf`"
        )


def replace(path: str, new: str) -> None:
    """Write the file whole, and let a running server read it."""
    descriptor, draft = tempfile.mkstemp(dir=Path(path).parent, prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(new)
    Path(draft).chmod(0o644)
    Path(draft).replace(path)
    if run("systemctl", "is-active", "--quiet", "ssh.service").returncode == 0:
        done = run("systemctl", "reload", "ssh.service")
        if done.returncode:
            raise Refused(f"the SSH server does not read its configuration again: {done.stderr.strip()}")


def guard(command: list[str]) -> None:
    """Run ``before_change``."""
    if command and (done := run(*command)).returncode:
        raise Refused(f"nothing was changed, because {shlex.join(command)} failed: {done.stderr.strip()}")


def bring_about(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    path, settings = parameters["path"], {key: str(value) for key, value in parameters["settings"].items()}
    there = shutil.which("sshd", path=ENVIRONMENT["PATH"])
    if there and (newer := parameters["newer"]):
        keywords = known()
        settings |= {key: str(value) for key, value in newer.items() if key.lower() in keywords}
    new, old = text(settings), read(path)
    if there:
        judge(path, new, settings)
    elif not (check and parameters["to_come"]):
        raise Refused(
            "there is no sshd on this node, and openssh-server is not among the bundle's packages"
        )
    if new != old and not check:
        guard(parameters["before_change"])
        replace(path, new)
    before, after = (set(each.splitlines()) for each in (old, new))
    changes = [*(f"no longer: {line}" for line in sorted(before - after)), *sorted(after - before)]
    diff = {"before_header": path, "after_header": path, "before": old, "after": new}
    return {"changed": new != old, "changes": changes, "diff": diff if new != old else {}}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "newer": {"type": "dict", "default": {}},
            "path": {"type": "path", "required": True},
            "before_change": {"type": "list", "elements": "str", "default": []},
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
