"""Wrong settings of the role end a real play before it touches the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).parents[3] / "roles"

GOOD: dict[str, Any] = {
    "inference_server_release": "0" * 64,
    "inference_server_wheels": "/nonexistent/engine",
    "inference_server_installer": "/nonexistent/pip.whl",
    "inference_server_model": "/nonexistent/tiny.gguf",
    "inference_server_model_folder": "/nonexistent",
    "inference_server_digests": {"/nonexistent/tiny.gguf": "a" * 64},
    "inference_server_model_name": "demo",
}

# host name: one setting changed, the last; those before it are what it is wrong beside
WRONG: dict[str, dict[str, Any]] = {
    "short-release": {"inference_server_release": "0" * 63},
    "release-with-parent": {"inference_server_release": "../../../../" + "0" * 52},
    "relative-model": {"inference_server_model": "tiny.gguf"},
    "model-with-space": {"inference_server_model": "/srv/two words.gguf"},
    "model-with-specifier": {"inference_server_model": "/srv/%h.gguf"},
    "name-with-option": {"inference_server_model_name": "demo --port 1"},
    "name-with-newline": {"inference_server_model_name": "demo\nUser=root"},
    "empty-name": {"inference_server_model_name": ""},
    "low-port": {"inference_server_port": 80},
    "high-port": {"inference_server_port": 65536},
    "no-context": {"inference_server_context": 0},
    "no-slots": {"inference_server_slots": 0},
    "no-time": {"inference_server_ready_seconds": 0},
    "no-gpus": {"inference_server_parallel": 0},
    "model-elsewhere": {"inference_server_model_folder": "/nonexistent/other"},
    "folder-with-specifier": {"inference_server_model_folder": "/%h"},
    "no-digests": {"inference_server_digests": {}},
    "short-digest": {"inference_server_digests": {"/nonexistent/tiny.gguf": "a" * 63}},
    "digest-of-two-lines": {"inference_server_digests": {"/nonexistent/tiny.gguf": "a" * 64 + "\n"}},
    "digest-of-a-relative-path": {"inference_server_digests": {"tiny.gguf": "a" * 64}},
    "team-with-a-space": {"inference_server_instances": [{"name": "two words", "port": 8001}]},
    "team-too-long-for-a-user": {"inference_server_instances": [{"name": "a" * 12, "port": 8001}]},
    "team-on-a-low-port": {"inference_server_instances": [{"name": "one", "port": 80}]},
    "teams-on-one-port": {
        "inference_server_instances": [{"name": "one", "port": 8001}, {"name": "two", "port": 8001}]
    },
    "ollama-without-an-archive": {"inference_server_engine": "ollama"},
    "archive-without-a-digest": {
        "inference_server_engine": "ollama",
        "inference_server_archive": "/srv/ollama-linux-amd64.tgz",
    },
    "archive-for-an-engine-of-wheels": {
        "inference_server_archive_sha256": "a" * 64,
        "inference_server_archive": "/srv/ollama-linux-amd64.tgz",
    },
    "relative-archive": {
        "inference_server_engine": "ollama",
        "inference_server_archive_sha256": "a" * 64,
        "inference_server_archive": "ollama-linux-amd64.tgz",
    },
    "not-a-number": {"inference_server_port": "http"},
}

PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "block": [
                    {"include_role": {"name": "inference_server", "tasks_from": "validate"}},
                    {"copy": {"content": "accepted", "dest": "{{ outcome }}"}},
                ],
                "rescue": [
                    {"copy": {"content": "{{ ansible_failed_result | to_json }}", "dest": "{{ outcome }}"}}
                ],
            }
        ],
    }
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real play with a host for each case; a file of each host's name holds what came of it."""
    folder = tmp_path_factory.mktemp("play")
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        name: {**local, "outcome": str(folder / name), **GOOD, **changed}
        for name, changed in {**WRONG, "good": {}}.items()
    }
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "play.json").write_text(json.dumps(PLAY))
    settings = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROLES), "ANSIBLE_HOME": str(folder / "home")}
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(folder / "inventory.json"), str(folder / "play.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_refused_with_what_is_wanted(outcomes: Path, name: str) -> None:
    result = json.loads((outcomes / name).read_text())
    assert "Wanted: a release of 64 hexadecimal digits" in result["msg"]
    setting = [*WRONG[name]][-1]
    assert setting in result["assertion"]


def test_good_settings_pass(outcomes: Path) -> None:
    assert (outcomes / "good").read_text() == "accepted"
