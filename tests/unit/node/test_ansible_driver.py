"""The driver against real playbooks on this machine: results come from events, whatever Ansible prints."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.ansible.callback.appliance_events import LONGEST
from appliance.node.ansible.driver import Playbook, run_playbook
from appliance.progress import Silent

if TYPE_CHECKING:
    from appliance.node.ansible.events import PlaybookResult

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}


class Run:
    """Runs tasks written as YAML; keeps the events and the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / "private"
        self.private.mkdir()
        self.log = folder / "ansible.log"
        self.events: list[Any] = []

    def __call__(
        self,
        tasks: str,
        *,
        hosts: dict[str, dict[str, object]] | None = None,
        pattern: str = "nodes",
        variables: dict[str, object] | None = None,
        **more: Any,
    ) -> PlaybookResult:
        file = self.folder / "play.yml"
        body = "".join(f"    {line}\n" for line in tasks.strip("\n").splitlines())
        file.write_text(f"- hosts: {pattern}\n  gather_facts: false\n  tasks:\n{body}")
        playbook = Playbook(
            file,
            self.folder / "roles",
            hosts if hosts is not None else {"gpu-01": LOCAL},
            variables or {},
            **{key: more.pop(key) for key in ("check",) if key in more},
        )
        return run_playbook(
            playbook,
            folder=self.private,
            log=self.log,
            **{"progress": Silent(), "on_event": self.events.append, **more},
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_ok_and_changed_are_counted_apart(run: Run, tmp_path: Path) -> None:
    tasks = f"""
- name: Write a file
  ansible.builtin.copy: {{content: x, dest: {tmp_path}/out}}
- name: Look
  ansible.builtin.command: "true"
  changed_when: false
- name: Not today
  ansible.builtin.command: "true"
  when: false
"""
    first = run(tasks)
    host = first.hosts["gpu-01"]
    assert (host.ok, host.changed, host.skipped) == (1, 1, 1)
    assert first.complete
    assert not first.troubles
    assert first.changes == ["gpu-01: Write a file"]
    second = run(tasks).hosts["gpu-01"]
    assert (second.ok, second.changed) == (2, 0)


def test_check_mode_tells_the_difference_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    result = run(
        f"""
- name: Write a file
  ansible.builtin.copy: {{content: "hello\\n", dest: {tmp_path}/out}}
""",
        check=True,
    )
    assert result.hosts["gpu-01"].changed == 1
    assert not (tmp_path / "out").exists()
    (event,) = [event for event in run.events if event.get("status") == "changed"]
    assert "hello" in event["diff"][0]["after"]


def test_a_failure_is_told_with_host_task_and_both_ends_of_its_message(run: Run) -> None:
    """The end of a traceback says why: it may not be what is left out."""
    result = run("""
- name: Break
  ansible.builtin.command: sh -c 'echo broken >&2; seq 3000 >&2; echo because >&2; exit 3'
- name: Never
  ansible.builtin.command: "true"
""")
    (trouble,) = result.troubles
    assert (trouble.host, trouble.task, trouble.status) == ("gpu-01", "Break", "failed")
    assert "broken\n1\n2\n" in trouble.message
    assert "\n[…]\n" in trouble.message
    assert trouble.message.endswith("2999\n3000\nbecause")
    assert len(trouble.message) == LONGEST
    assert result.hosts["gpu-01"].failed == 1
    assert result.status != 0


def test_an_ignored_failure_is_none(run: Run) -> None:
    result = run("""
- name: May break
  ansible.builtin.command: "false"
  ignore_errors: true
""")
    assert not result.troubles
    assert result.hosts["gpu-01"].failed == 0


def test_an_unreachable_host_is_told_apart_from_a_failure(run: Run, tmp_path: Path) -> None:
    """Port 1 on this machine refuses; nothing leaves it."""
    config = tmp_path / "ssh_config"
    config.write_text("Host gpu-02\n  HostName 127.0.0.1\n  Port 1\n  BatchMode yes\n")
    hosts = {
        "gpu-01": LOCAL,
        "gpu-02": {"ansible_connection": "ssh", "ansible_ssh_common_args": f"-F {config}"},
    }
    result = run("- name: Look\n  ansible.builtin.command: 'true'", hosts=hosts)
    (trouble,) = result.troubles
    assert (trouble.host, trouble.status) == ("gpu-02", "unreachable")
    assert result.hosts["gpu-02"].unreachable == 1
    assert result.hosts["gpu-01"].changed == 1


def test_a_play_that_matches_no_host_is_noticed_though_ansible_ends_well(run: Run) -> None:
    result = run("- name: Look\n  ansible.builtin.command: 'true'", pattern="nobody")
    assert result.status == 0
    assert result.no_hosts
    assert result.missing == ["gpu-01"]


def test_a_playbook_that_cannot_be_read_is_not_complete(run: Run) -> None:
    result = run("- name: Broken\n  no.such.module: {}")
    assert not result.complete
    assert result.status != 0
    assert "no.such.module" in run.log.read_text()


def test_every_task_is_counted_before_the_first_runs(run: Run) -> None:
    tasks = "\n".join(f"- name: Task {n}\n  ansible.builtin.command: 'true'" for n in range(3))
    run(f"{tasks}\n- block:\n  - name: Inner\n    ansible.builtin.command: 'true'")
    assert run.events[0] == {"event": "start", "plays": [{"tasks": 4, "serial": []}]}
    told = [event["name"] for event in run.events if event["event"] == "task"]
    assert told == ["Task 0", "Task 1", "Task 2", "Inner"]


def test_variables_reach_the_play_and_appear_nowhere_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "no-such-callback")
    monkeypatch.setenv("HTTP_PROXY", "http://operator.example")
    result = run(
        f"""
- name: Look
  ansible.builtin.shell: |
    cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' > {tmp_path}/cmdlines
    env > {tmp_path}/environment
  no_log: true
- name: Use
  ansible.builtin.assert: {{that: "secret == 'swordfish'"}}
  no_log: true
""",
        variables={"secret": "swordfish"},
    )
    assert result.complete, run.log.read_text()
    assert not result.troubles
    environment = (tmp_path / "environment").read_text()
    assert "swordfish" not in (tmp_path / "cmdlines").read_text()
    assert "swordfish" not in environment
    assert "operator.example" not in environment
    assert "swordfish" not in run.log.read_text() + json.dumps(run.events)
    for file in run.private.glob("*.json"):
        assert file.stat().st_mode & 0o077 == 0


def test_an_interrupt_is_passed_on_once_and_nothing_is_left_running(run: Run, tmp_path: Path) -> None:
    marker = tmp_path / "pid"

    def interrupt() -> None:
        while not marker.exists() or not marker.read_text():
            if done.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGINT)

    done = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(f"- name: Long\n  ansible.builtin.shell: echo $$ > {marker}; exec sleep 60")
    finally:
        done.set()
        thread.join()
    assert not Path(f"/proc/{marker.read_text().strip()}").exists()


@pytest.mark.parametrize(("action", "cut"), [("sshd_settings", True), ("quiet_units", False)])
def test_of_the_quiet_host_only_the_ssh_servers_settings_can_cut(action: str, cut: bool) -> None:
    from appliance.node.ansible.events import Tally

    tally = Tally(["gpu-01"], Silent())
    event = {"event": "result", "host": "gpu-01", "task": "t", "role": "quiet_host", "status": "changed"}
    tally.take({**event, "action": action})
    assert tally.close(0).hosts["gpu-01"].cut is cut


@pytest.mark.parametrize(
    ("tasks", "cut"),
    [
        ([("network_isolation", "ok", None), ("revert", "ok", "confirmed")], False),
        ([("network_isolation", "changed", None)], True),
        ([("firewall", "unreachable", None)], True),
        ([("firewall", "changed", None), ("revert", "failed", "confirmed")], True),
        ([("firewall", "changed", None), ("revert", "changed", "confirmed")], False),
        ([("revert", "ok", "ready"), ("firewall", "changed", None), ("revert", "ok", "ready")], True),
        ([("base", "changed", None)], False),
    ],
)
def test_a_change_that_can_cut_ssh_is_open_until_it_is_confirmed(
    tasks: list[tuple[str, str, str | None]], cut: bool
) -> None:
    from appliance.node.ansible.events import Tally

    tally = Tally(["gpu-01"], Silent())
    for role, status, revert in tasks:
        event = {"event": "result", "host": "gpu-01", "task": "t", "role": role, "status": status}
        tally.take(event | ({"revert": revert} if revert else {}))
    assert tally.close(0).hosts["gpu-01"].cut is cut


@pytest.mark.parametrize(
    ("hosts", "serial", "count"),
    [
        (1, [], 1),
        (3, [], 1),
        (1, [1, "100%"], 1),
        (2, [1, "100%"], 2),
        (9, [1, "100%"], 2),
        (5, [2], 3),
        (4, ["50%"], 2),
        (3, ["10%"], 3),
        (3, [0], 1),
    ],
)
def test_batches_are_counted_as_ansible_makes_them(hosts: int, serial: list[int | str], count: int) -> None:
    from appliance.node.ansible.events import batches

    assert batches(hosts, serial) == count


def test_who_asks_for_more_of_ansible_gets_it_into_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = "- ansible.builtin.command: echo said\n  changed_when: false"
    run(task)
    assert "> EXEC " not in run.log.read_text()
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "4")
    run(task)
    assert "> EXEC " in run.log.read_text()


def test_ansible_does_not_look_for_results_every_millisecond(run: Run) -> None:
    """Its own default, which takes a tenth of the processor time of a run that mostly waits for nodes."""
    found = "lookup('ansible.builtin.config', 'DEFAULT_INTERNAL_POLL_INTERVAL')"
    result = run(f'- ansible.builtin.assert: {{that: "{found} | float == 0.02"}}')
    assert result.complete
    assert not result.troubles


def test_a_worker_does_not_look_through_what_ansible_has_loaded(run: Run, tmp_path: Path) -> None:
    """A filter says how many objects Python leaves alone in the process that runs the task."""
    filters = tmp_path / "filter_plugins"
    filters.mkdir()
    counts = "lambda self: {'left': lambda _: gc.get_freeze_count()}"
    (filters / "left.py").write_text(f"import gc\nclass FilterModule:\n    filters = {counts}\n")
    result = run('- ansible.builtin.assert: {that: "(0 | left) > 50000"}')
    assert not result.troubles, result.troubles
