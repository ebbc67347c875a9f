"""The role `disk_encryption` before the drives of this machine, by the real Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.roles.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence


PROGRAMS = Path(sys.executable).parent


def play(folder: Path, enrolled: Sequence[str]) -> tuple[int, str, list[dict[str, object]]]:
    """Exit status, what Ansible printed, and the fact."""
    told = folder / "told.json"
    tasks = [
        {
            "ansible.builtin.import_role": {"name": "disk_encryption"},
            "vars": {"disk_encryption_enrolled": list(enrolled)},
        },
        {
            "ansible.builtin.copy": {
                "content": "{{ disk_encryption_found.drives | to_json }}",
                "dest": str(told),
                "mode": "0600",
            }
        },
    ]
    book = folder / "play.yml"
    book.write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": tasks}])
    )
    done = subprocess.run(
        [
            *(str(PROGRAMS / "ansible-playbook"), "-i", "localhost,", str(book), "-vvvv"),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        env=os.environ | {"ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"), "ANSIBLE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, json.loads(told.read_text()) if told.exists() else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("role")


def test_it_says_what_the_command_says_and_changes_nothing(folder: Path) -> None:
    status, text, drives = play(folder, [])
    assert status == 0, text
    command = [str(PROGRAMS / "appliance"), "disk", "status", "--json"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert drives
    assert [(one["path"], one["tcg"], one["verdict"]) for one in drives] == [
        (one["path"], one["tcg"], one["verdict"]) for one in said["drives"]
    ]
    assert "changed=1 " in text, "the test's own file, and nothing of the role's"


def test_a_drive_that_has_to_be_enrolled_and_is_not_ends_the_run(folder: Path) -> None:
    status, text, _ = play(folder, ["NO-SUCH-SERIAL"])
    assert status != 0
    assert "the drive NO-SUCH-SERIAL is not there, or is not encrypted by itself" in text
