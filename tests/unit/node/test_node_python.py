"""What runs on nodes runs on Python 3.10, the oldest a node may have; and uses nothing but its library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.content import content_root
from appliance.node import script
from appliance.node.audit import packing

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = (3, 10)
#: Modules and names of the standard library that are newer ("What's New in Python", 3.11 to 3.14).
NEWER_MODULES = {"tomllib", "compression", "annotationlib", "string.templatelib"}
NEWER_NAMES = {
    *("UTC", "StrEnum", "ReprEnum", "Self", "LiteralString", "TaskGroup", "ExceptionGroup", "chdir"),
    *("file_digest", "batched", "override", "BaseExceptionGroup", "add_note", "Required", "NotRequired"),
    *("assert_never", "reveal_type", "getencoding", "full_match", "process_cpu_count"),
}
#: What a node's programs are given by us or by Ansible.
GIVEN = {
    *("ansible", "appliance", "xllamacpp"),
    *("lasting_files", "network_state", "network_snapshot", "network_restore", "launching"),
    *("check_model", "model_store", "relaying"),
    "gpu_layout",
}


def programs() -> list[Path]:
    """Every program and module of ours that some node's own Python runs."""
    roles = content_root() / "roles"
    remote = Path(script.__file__).parent / "remote"
    sent = [*remote.glob("*.py"), remote.parent / "probe_attempts.py"]
    auditor = [remote.parents[1] / path for path in packing.MODULES]
    modules = [*auditor, *roles.glob("*/library/*.py"), *roles.glob("*/module_utils/*.py")]
    files = [path for path in roles.glob("*/files/**/*") if path.is_file() and is_python(path)]
    return sorted({*sent, *modules, *files})


def is_python(path: Path) -> bool:
    return path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/python3")


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of modules that are imported when it runs; what stands under TYPE_CHECKING is not."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case _:
                yield from imported(node)


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name


def test_all_of_them_are_found() -> None:
    found = {path.name for path in programs()}
    assert {"receive.py", "staged_copy.py", "probe_attempts.py", "appliance-revert"} <= found
    assert {"concluding.py", "inventory_record.py"} <= found
    assert {"static_network.py", "wheel_environment.py", "serve_xllamacpp.py"} <= found


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.name)
def test_a_program_for_nodes_is_python_3_10(path: Path) -> None:
    tree = ast.parse(path.read_bytes(), path, feature_version=OLDEST)
    modules = set(imported(tree))
    assert not modules & NEWER_MODULES
    assert not set(names(tree)) & NEWER_NAMES
    foreign = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names
    assert foreign <= GIVEN


def test_a_program_that_needs_a_newer_python_would_be_noticed() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("try:\n    pass\nexcept* OSError:\n    pass\n", feature_version=OLDEST)
    assert set(names(ast.parse("from datetime import UTC\nhashlib.file_digest(x)"))) & NEWER_NAMES == {
        "UTC",
        "file_digest",
    }
    assert list(imported(ast.parse("if TYPE_CHECKING:\n    import x\nelse:\n    pass\nimport y.z"))) == [
        "y.z"
    ]
