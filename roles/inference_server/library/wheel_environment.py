#!/usr/bin/python
"""A virtual environment from a folder of wheels, offline and with required hashes, and what runs in it.

Works on a node whose Python has neither pip nor ensurepip: the environment is created without pip,
and a pip wheel is run from its archive.  Nothing is looked up in any index.

The environment counts as complete only by a record written last, so an interrupted run is made good
by the next.  It is rebuilt when the requirements or the node's Python changed, or when an installed
file is missing or has another size than its wheel said.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils.appliance_programs import PROGRAMS, ensure_programs
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wheel_environment
short_description: A virtual environment from staged wheels, and the program that runs in it
description:
  - Installs the wheels that C(requirements.txt) names with their hashes.
  - Rebuilds an environment that is damaged, or that was made for other inputs.
  - Then puts programs of ours in their places.
options:
  path:
    description: Folder of the environment. Its parents are created.
    type: path
    required: true
  wheels:
    description: Folder of wheels with a file of requirements, C(name==version --hash=sha256:...) by line.
    type: path
    required: true
  requirements:
    description: Name of that file; C({python}) in it is the node's, as in C(3.13).
    type: str
    default: requirements.txt
  installer:
    description: A pip wheel.
    type: path
    required: true
  imports:
    description: Modules that must import before the environment counts as complete.
    type: list
    elements: str
    default: []
  python:
    description: Interpreter to build with.
    type: path
    default: /usr/bin/python3
  programs:
    description: What we run in the environment, and what that reads; none where the wheels bring their own.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies. Its folder is created.
        type: path
        required: true
      text:
        description: What it says.
        type: str
        required: true
author:
  - The appliance developers
"""

RECORD = "appliance-environment.json"
OUTPUT_LINES = 20  # how much of a failed program's output is worth showing


class CannotBuild(Exception):
    """The environment cannot be made; the arguments are message, found, wanted."""


def wanted_record(requirements: bytes, python_version: str) -> dict[str, str]:
    """What the record of a complete environment says for these inputs."""
    return {"requirements": hashlib.sha256(requirements).hexdigest(), "python": python_version}


def read_record(environment: Path) -> dict[str, str] | None:
    """The record of an environment, or None where it is absent or unreadable: not complete."""
    try:
        record = json.loads((environment / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def damaged_files(environment: Path) -> list[str]:
    """Installed files that are missing, or of another size than any distribution's RECORD says.

    Sizes, not digests: this runs on every apply, and closures of several gigabytes exist.  RECORD:
    "Recording installed projects", packaging.python.org specification: rows of path, hash, size.
    What Python compiled (PEP 3147) is left out: it may write that anew, with another size, at any import.
    Several distributions may bring one file, of which pip leaves the last: flashinfer-python 0.6.6 and
    torch_c_dlpack_ext 0.1.5 both have a ``build_backend.py`` at the top.
    """
    stated: dict[Path, set[str]] = {}
    for record in sorted(environment.glob("lib/python3*/site-packages/*.dist-info/RECORD")):
        site = record.parent.parent
        for name, _digest, size in csv.reader(record.read_text("utf-8").splitlines()):
            path = site / name
            if path.parent.name != "__pycache__":
                stated.setdefault(path, set()).add(size)
    return [
        os.path.relpath(path, environment)
        for path, sizes in stated.items()
        if not path.is_file() or ("" not in sizes and str(path.stat().st_size) not in sizes)
    ]


def reasons_to_build(environment: Path, wanted: dict[str, str]) -> list[str]:
    """Why the environment must be built, one sentence each; none when it is as wanted."""
    found = read_record(environment)
    if found is None:
        return ["incomplete" if environment.exists() else "absent"]
    reasons = [
        f"{key} was {found.get(key)}, is {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    return reasons + [f"damaged: {name}" for name in damaged_files(environment)]


def build(environment: Path, requirements: Path, installer: Path, python: str, imports: list[str]) -> None:
    """Create the environment anew, without its record, from wheels beside their requirements.

    Raises:
        CannotBuild: a program failed, or the installer is no wheel.
    """
    if environment.exists():
        shutil.rmtree(environment)
    environment.parent.mkdir(parents=True, exist_ok=True)
    run([python, "-I", "-m", "venv", "--without-pip", str(environment)], "cannot create the environment")
    interpreter = str(environment / "bin/python")
    # Unpacked, and where an environment that was not finished is taken away: what runs from an archive is
    # compiled at every start, which takes longer than all the rest.
    unpacked = environment / "installer"
    unpack(installer, unpacked)
    pip = [interpreter, "-I", f"{unpacked}/pip"]
    alone = ["--isolated", "--disable-pip-version-check", "--no-input"]
    offline = ["--no-index", "--find-links", str(requirements.parent), "--no-cache-dir"]
    exact = [
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-deps",
        "-r",
        str(requirements),
    ]
    run([*pip, "install", *alone, *offline, *exact], "cannot install the wheels")
    run([*pip, "check", *alone], "the wheels do not fit together")
    shutil.rmtree(unpacked)
    for name in imports:
        run([interpreter, "-I", "-c", f"import {name}"], f"{name} was installed but does not import")


def unpack(installer: Path, folder: Path) -> None:
    """Unpack the wheel of pip.

    Raises:
        CannotBuild: it is none.
    """
    try:
        with zipfile.ZipFile(installer) as wheel:
            wheel.extractall(folder)
    except zipfile.BadZipFile as fault:
        raise CannotBuild(
            "there is nothing to install wheels with", str(fault), f"a wheel: {installer}"
        ) from fault


def run(command: list[str], failure: str) -> str:
    """Run a program in a bare environment and return what it printed.

    Raises:
        CannotBuild: with ``failure`` and the end of its output.
    """
    surroundings = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = subprocess.run(
        command,
        env=surroundings,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-OUTPUT_LINES:])
        raise CannotBuild(failure, tail, f"success of: {' '.join(command)}")
    return done.stdout


def read_requirements(path: Path) -> bytes | None:
    """The bytes of a file of requirements, or None when there is none yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def ensure(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make environment and programs as wanted, or in check mode say what would be done.

    Returns:
        The module's result: changed, reasons (each why the environment is built), diff.

    Raises:
        CannotBuild: an input is missing or a program failed.
    """
    reasons, diff = ensure_environment(options, check_mode=check_mode)
    diff += ensure_programs(options["programs"], check_mode=check_mode)
    return {"changed": bool(diff), "reasons": reasons, "diff": diff}


def ensure_environment(
    options: dict[str, Any], *, check_mode: bool
) -> tuple[list[str], list[dict[str, str]]]:
    """Make the environment as wanted; returns why it is built, and the change as Ansible shows it.

    Raises:
        CannotBuild: an input is missing or a program failed.
    """
    environment, wheels, installer = (Path(options[key]) for key in ("path", "wheels", "installer"))
    print_version = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = run([options["python"], "-I", "-c", print_version], "the node's Python does not run").strip()
    file = wheels / options["requirements"].format(python=version)
    requirements = read_requirements(file)
    if requirements is None:
        # A rehearsal on a node that holds nothing yet: whatever comes will have to be built.
        if check_mode:
            return ["absent"], [difference(["absent"], None)]
        raise CannotBuild("there are no wheels to install", "no such file", str(file))
    wanted = wanted_record(requirements, version)
    reasons = reasons_to_build(environment, wanted)
    if not reasons:
        return [], []
    if not check_mode:
        if not installer.is_file():
            raise CannotBuild("there is nothing to install wheels with", "no such file", str(installer))
        build(environment, file, installer, options["python"], options["imports"])
        (environment / RECORD).write_text(json.dumps(wanted, indent=1) + "\n", "utf-8")
    return reasons, [difference(reasons, requirements)]


def difference(reasons: list[str], requirements: bytes | None) -> dict[str, str]:
    """The change as Ansible shows it: why, and the requirements that are installed."""
    after = requirements.decode("utf-8", "replace") if requirements is not None else "not staged yet\n"
    return {"before": "\n".join(reasons) + "\n", "after": after}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "wheels": {"type": "path", "required": True},
            "installer": {"type": "path", "required": True},
            "imports": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "programs": PROGRAMS,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # others run what root installs, whatever root's own habit
    try:
        module.exit_json(**ensure(module.params, check_mode=module.check_mode))
    except CannotBuild as problem:
        message, found, wanted = problem.args
        module.fail_json(msg=f"{message}: {found}", found=found, wanted=wanted)


if __name__ == "__main__":
    main()
