"""Playbooks and roles, read as data: what holds for every one of them, whoever writes the next."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if (path / "tasks").is_dir())
PLAYBOOKS = sorted((REPOSITORY / "playbooks").glob("*.yml"))
TASK_FILES = sorted(
    path for role in ROLES for path in (*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml"))
)

#: What a task may say besides naming its one module (Ansible's playbook keywords that we use).
KEYWORDS = {
    *("name", "when", "register", "changed_when", "failed_when", "check_mode", "vars", "tags", "notify"),
    *(
        "loop",
        "loop_control",
        "no_log",
        "listen",
        "environment",
        "become",
        "delegate_to",
        "run_once",
        "diff",
    ),
}

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
each_playbook = pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda playbook: playbook.stem)
each_task_file = pytest.mark.parametrize(
    "path", TASK_FILES, ids=lambda path: f"{path.parent.parent.name}/{path.name}"
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def modules_of(task: dict[str, Any]) -> set[str]:
    return set(task) - KEYWORDS


def own_modules() -> set[str]:
    return {path.stem for role in ROLES for path in role.glob("library/*.py")}


def test_there_is_something_to_judge() -> None:
    assert {"base", "firewall", "network_isolation", "revert"} <= {role.name for role in ROLES}
    assert PLAYBOOKS


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in ("roles", "playbooks")
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_no_file_of_a_role_or_playbook_names_an_address_to_fetch_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\b(?:https?|ftp|git|ssh)://(?!127\.0\.0\.1|\[::1\]|localhost|\{)[^\s\"']+", text)
    assert found == []


@each_playbook
def test_every_play_stops_at_the_first_failed_host_and_fixes_the_locale(playbook: Path) -> None:
    for play in read(playbook):
        assert play["any_errors_fatal"] is True
        assert play["max_fail_percentage"] == 0
        assert play["environment"]["LC_ALL"] == "C.UTF-8"
        assert play["gather_facts"] is False


@each_playbook
def test_every_role_is_imported_statically_under_its_own_tag(playbook: Path) -> None:
    """Static, so that the number of tasks is known before the first one runs."""
    for play in read(playbook):
        for task in play["tasks"]:
            assert modules_of(task) == {"ansible.builtin.import_role"}
            assert task["tags"] == [task["ansible.builtin.import_role"]["name"]]


@each_playbook
def test_a_playbook_gives_a_role_only_the_roles_own_variables(playbook: Path) -> None:
    for play in read(playbook):
        for task in play["tasks"]:
            name = task["ansible.builtin.import_role"]["name"]
            declared = read(REPOSITORY / f"roles/{name}/meta/argument_specs.yml")["argument_specs"]["main"][
                "options"
            ]
            assert set(task.get("vars", {})) <= set(declared)


def test_what_can_cut_ssh_comes_last_between_readiness_and_confirmation() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    order = [task["ansible.builtin.import_role"] for task in play["tasks"]]
    assert [role["name"] for role in order] == [
        *("disk_encryption", "base", "gpu_driver", "gpu_partition", "inference_server", "log_export"),
        "daily_audit",
        *("revert", "network_isolation", "quiet_host", "firewall", "revert"),
        "quiet_host",
    ]
    assert order[-2]["tasks_from"] == "confirm.yml"
    confirm = read(REPOSITORY / "roles/revert/tasks/confirm.yml")
    assert confirm[0]["ansible.builtin.meta"] == "reset_connection"


def test_every_change_that_can_cut_ssh_and_every_pending_one_must_be_confirmed() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    given = play["tasks"][-2]["vars"]["revert_required"]
    reasons = ("network_isolation_found", "firewall_found", "quiet_host_ssh_found", "revert_found.pending")
    for reason in reasons:
        assert reason in given
    (_close, confirm) = read(REPOSITORY / "roles/revert/tasks/confirm.yml")
    assert (confirm["when"], confirm["timed_revert"]["required"]) == ("revert_required | bool", True)
    assert confirm["timed_revert"]["fresh"] == "{{ ansible_connection != 'local' }}"


def test_a_run_confirms_under_the_name_under_which_it_armed() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    assert play["vars"]["arm_revert"][-2:] == ["--run", "{{ revert_found.run }}"]
    assert play["tasks"][-2]["vars"]["revert_run"] == "{{ revert_found.run }}"
    (_close, confirm) = read(REPOSITORY / "roles/revert/tasks/confirm.yml")
    assert confirm["timed_revert"]["run"] == "{{ revert_run }}"


def test_every_part_of_the_revert_program_is_installed() -> None:
    (task,) = read(REPOSITORY / "roles/revert/tasks/ready.yml")
    files = REPOSITORY / "roles/revert/files"
    there = {f"/{path.relative_to(files)}" for path in files.rglob("*") if path.is_file()}
    assert set(task["timed_revert"]["files"]) == there


def test_what_cannot_be_undone_without_a_reboot_comes_when_all_else_is_confirmed() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    last = play["tasks"][-1]["ansible.builtin.import_role"]
    assert (last["name"], last["tasks_from"]) == ("quiet_host", "lock.yml")


def test_the_roles_that_can_cut_ssh_arm_the_revert() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    given = {
        task["ansible.builtin.import_role"]["name"]: task.get("vars", {})
        for task in play["tasks"]
        if "tasks_from" not in task["ansible.builtin.import_role"]
    }
    for name in ("network_isolation", "quiet_host", "firewall"):
        assert given[name][f"{name}_before_change"] == "{{ arm_revert }}"
    program = read(REPOSITORY / "roles/revert/vars/main.yml")["revert_program"]
    assert play["vars"]["arm_revert"][:3] == [program, "arm", "--after"]


def test_one_node_goes_first_alone() -> None:
    (play,) = read(REPOSITORY / "playbooks/site.yml")
    assert play["serial"] == [1, "100%"]


@each_role
def test_every_variable_begins_with_its_roles_name(role: Path) -> None:
    specification = read(role / "meta/argument_specs.yml")["argument_specs"]
    names = {name for entry in specification.values() for name in entry["options"]}
    names |= set(read(role / "defaults/main.yml") or {})
    assert [name for name in sorted(names) if not name.startswith(f"{role.name}_")] == []


@each_role
def test_the_specification_and_the_defaults_agree(role: Path) -> None:
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    specified = {name: option["default"] for name, option in options.items() if "default" in option}
    assert specified == read(role / "defaults/main.yml")
    assert all("default" in option or option.get("required") for option in options.values())


@each_role
def test_every_variable_is_described_in_the_readme(role: Path) -> None:
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    readme = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in options if f"`{name}`" not in readme] == []


@each_role
def test_main_only_imports(role: Path) -> None:
    allowed = {"ansible.builtin.import_tasks", "ansible.builtin.include_vars"}
    for task in read(role / "tasks/main.yml"):
        assert modules_of(task) <= allowed


@each_task_file
def test_every_module_is_builtin_by_its_full_name_or_our_own(path: Path) -> None:
    for task in read(path):
        (module,) = modules_of(task)
        assert module.startswith("ansible.builtin.") or module in own_modules()


@each_task_file
def test_no_task_downloads_reboots_or_ignores_its_failure(path: Path) -> None:
    for task in read(path):
        (module,) = modules_of(task)
        assert module.removeprefix("ansible.builtin.") not in {
            *("get_url", "uri", "git", "apt", "package", "pip", "apt_key", "apt_repository", "reboot"),
        }
        assert "ignore_errors" not in task


@each_role
def test_no_role_depends_on_another(role: Path) -> None:
    """The playbook alone decides the order."""
    assert read(role / "meta/main.yml")["dependencies"] == []
