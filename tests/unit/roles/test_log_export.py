"""The role ``log_export``, read as data: its units, its contract, and why it would restart something."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.nativetypes
import pytest
import yaml

from appliance.errors import SpoolFull
from appliance.export.selection import read_selection

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = Path(__file__).parents[3] / "roles/log_export"
UNITS = ROLE / "templates/etc/systemd/system"
SOCKET = ["--socket", "/run/appliance-export/records"]
MAPPED = ("log_export_sources", "log_export_folders", "log_export_sending", "log_export_select")
#: Started by another unit alone.
ASKED_FOR = {"appliance-export-full.service"}
GIVEN = {
    "log_export_command": "/opt/appliance/export/0123456789ab/venv/bin/appliance",
    "log_export_user": "appliance-export",
    "log_export_stamp": "f" * 64,
    "log_export_options": ["--journal", "--folder=checks=/var/spool/checks"],
    "log_export_folders": {"checks": "/var/spool/checks"},
    "log_export_sending": {},
    "log_export_groups": ["systemd-journal", "adm"],
    "log_export_settings": {
        "folder": "/var/lib/appliance-export",
        "receiver": {"address": "192.0.2.2", "mac": "02:00:00:00:00:0f", "port": 5514},
    },
}


def unit(name: str, **changed: object) -> dict[str, list[str]]:
    """Directives of a rendered unit by name, in order; continued lines joined."""
    surroundings = jinja2.Environment(  # noqa: S701 -- no HTML
        loader=jinja2.FileSystemLoader(UNITS), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = surroundings.get_template(f"{name}.service.j2").render({**GIVEN, **changed}).replace("\\\n", " ")
    directives: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            directives.setdefault(key, []).append(value)
    return directives


@pytest.mark.parametrize(
    ("directive", "values"),
    [
        ("NetworkNamespacePath", ["/run/netns/appliance-export"]),
        ("BindsTo", ["appliance-export-line.service"]),
        ("User", ["appliance-export"]),
        ("IPAddressDeny", ["any"]),
        ("IPAddressAllow", ["192.0.2.2"]),
        ("SocketBindDeny", ["any"]),
        ("RestrictAddressFamilies", ["AF_UNIX AF_INET"]),
        ("InaccessiblePaths", ["-/run/dbus -/run/systemd/resolve"]),
        ("ProtectSystem", ["strict"]),
        ("ReadWritePaths", ["/var/lib/appliance-export /var/spool/checks"]),
        ("SupplementaryGroups", ["systemd-journal adm"]),
        ("CapabilityBoundingSet", [""]),
        ("AmbientCapabilities", [""]),
        ("NoNewPrivileges", ["yes"]),
        ("PrivateDevices", ["yes"]),
        ("DevicePolicy", ["closed"]),
        ("MemoryDenyWriteExecute", ["yes"]),
        ("RestrictNamespaces", ["yes"]),
        ("ProtectProc", ["invisible"]),
        ("ProtectKernelTunables", ["yes"]),
        ("SystemCallFilter", ["@system-service", "~@privileged @resources"]),
        ("UMask", ["0077"]),
        ("LimitCORE", ["0"]),
    ],
)
def test_the_unit_confines_the_sender(directive: str, values: list[str]) -> None:
    """The whole list, so that a directive lost in an edit is noticed without a node."""
    assert unit("appliance-export")[directive] == values


def test_the_sender_sends_to_the_receiver_and_knows_its_walls() -> None:
    (command,) = unit("appliance-export")["ExecStart"]
    assert " export send /var/lib/appliance-export/sender " in command
    for part in (
        "--to 192.0.2.2:5514",
        "--watched /run/appliance-export-line/watched.json",
        "--journal --folder=checks=/var/spool/checks",
    ):
        assert part in command


def test_the_line_is_up_before_any_network_is() -> None:
    line = unit("appliance-export-line")
    assert {"network-pre.target", "systemd-networkd.service"} <= set(line["Before"][0].split())
    assert (line["DefaultDependencies"], line["Type"]) == (["no"], ["oneshot"])
    private = {
        "ProtectSystem",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ReadWritePaths",
        "PrivateMounts",
    }
    assert not private & line.keys(), "a namespace mounted in mounts of its own is seen by nobody"


def test_whoever_watches_ends_with_the_line() -> None:
    assert unit("appliance-export-watch")["BindsTo"] == ["appliance-export-line.service"]


def read(name: str) -> Any:
    return yaml.safe_load((ROLE / name).read_text("utf-8"))


def test_units_and_files_agree_everywhere() -> None:
    units = read("vars/main.yml")["log_export_units"]
    assert {*units, *ASKED_FOR} == {path.name.removesuffix(".j2") for path in UNITS.iterdir()}
    for file in ("present.yml", "absent.yml"):
        (task,) = (each for each in read(f"tasks/{file}") if "one_way_export" in each)
        paths = {f"/etc/systemd/system/{name}" for name in {*units, *ASKED_FOR}}
        paths |= {f"/etc/appliance/export-{name}.json" for name in ("line", "select")}
        assert set(task["one_way_export"]["files"]) == paths


def test_defaults_are_documented_with_their_values() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    assert documented == read("defaults/main.yml")


def test_the_readme_lists_every_setting() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    table = re.findall(r"^\| `(\w+)` \|", (ROLE / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(options)


def evaluated(expression: str, **values: object) -> Any:
    """A template of Ansible's as a value."""
    surroundings = jinja2.nativetypes.NativeEnvironment(undefined=jinja2.ChainableUndefined)
    surroundings.filters["ansible.builtin.regex_replace"] = lambda text, was, to: re.sub(was, to, text)
    surroundings.tests["ansible.builtin.match"] = lambda text, pattern: re.match(pattern, text) is not None
    return surroundings.from_string(expression).render(values)


@pytest.mark.parametrize(
    ("sources", "options"),
    [
        ({}, ["--journal", *SOCKET]),
        ({"journal": False}, SOCKET),
        ({"audit": True}, ["--journal", *SOCKET, "--audit", "/var/log/audit/audit.log"]),
        (
            {"folders": {"b": "/srv/b", "a": "/srv/a"}},
            ["--journal", *SOCKET, "--folder=a=/srv/a", "--folder=b=/srv/b"],
        ),
    ],
)
def test_what_the_inventory_asks_for_is_what_the_sender_is_given(
    sources: dict[str, Any], options: list[str]
) -> None:
    (play,) = yaml.safe_load((ROLE.parents[1] / "playbooks/site.yml").read_text("utf-8"))
    (task,) = (each for each in play["tasks"] if "log_export" in each["tags"])
    mapped = {name: evaluated(task["vars"][name], sources=sources, export={}) for name in MAPPED}
    assert evaluated(read("vars/main.yml")["log_export_options"], **mapped) == options


@pytest.mark.parametrize(
    ("export", "options"),
    [
        ({}, []),
        (
            {"sending": {"rate": 2.5, "idle_rate": 0, "constant": True}},
            ["idle-rate=0", "rate=2.5", "constant"],
        ),
        ({"sending": {"parity": 30, "spool": 4096}}, ["parity=30", "spool=4096"]),
        ({"sending": {"when_full": "stop"}}, ["stop-when-full"]),
        ({"sending": {"when_full": "drop", "constant": False}}, []),
        ({"select": {"journal": {"fields": []}}}, ["select=/etc/appliance/export-select.json"]),
        ({"select": {}}, ["select=/etc/appliance/export-select.json"]),
    ],
)
def test_how_the_inventory_wants_it_sent_is_how_the_sender_is_told(
    export: dict[str, Any], options: list[str]
) -> None:
    (play,) = yaml.safe_load((ROLE.parents[1] / "playbooks/site.yml").read_text("utf-8"))
    (task,) = (each for each in play["tasks"] if "log_export" in each["tags"])
    mapped = {name: evaluated(task["vars"][name], sources={}, export=export) for name in MAPPED}
    names = {"log_export_select_file": read("vars/main.yml")["log_export_select_file"]}
    found = evaluated(read("vars/main.yml")["log_export_options"], **mapped, **names)
    assert found == ["--journal", *SOCKET, *(f"--{each}" for each in options)]


def test_the_workload_ends_with_a_full_spool_only_where_that_is_wanted() -> None:
    dropping = unit("appliance-export")
    assert not {"OnFailure", "RestartPreventExitStatus"} & dropping.keys()
    stopping = unit("appliance-export", log_export_sending={"when_full": "stop"})
    assert stopping["OnFailure"] == ["appliance-export-full.service"]
    assert stopping["RestartPreventExitStatus"] == [str(SpoolFull.exit_code)]
    assert unit("appliance-export-full")["ExecStart"] == ["systemctl stop 'appliance-inference*.service'"]


def test_the_selection_is_a_file_that_the_sender_reads() -> None:
    select = {"journal": {"fields": ["MESSAGE"], "redact": [r"(?i)password=\S+", "é+"]}}
    text = json.dumps({"format": 1, "streams": select}, ensure_ascii=False)
    found = read_selection(text, "select")
    record = {"stream": "journal", "fields": {"MESSAGE": "PassWord=x éé", "_PID": "1"}}
    kept = json.loads(found.apply(json.dumps(record).encode()))
    assert kept["fields"] == {"MESSAGE": "*** ***"}


@pytest.mark.parametrize(
    ("sources", "log"),
    [([*SOCKET, "--audit", "/a/b"], "/a/b"), (SOCKET, ""), (["--audit"], "")],
)
def test_the_audit_log_is_found_among_the_sources(sources: list[str], log: str) -> None:
    assert (
        evaluated(read("vars/main.yml")["log_export_audit_log"], log_export_sources=sources) or ""
    ) == log


READABLE = {"exists": True, "gr_name": "adm", "rgrp": True, "xgrp": True}


@pytest.mark.parametrize(
    ("stat", "group"),
    [
        (READABLE, "adm"),
        ({**READABLE, "gr_name": "root"}, ""),
        ({**READABLE, "rgrp": False}, ""),
        ({"exists": False}, ""),
    ],
)
def test_whose_group_reads_the_audit_log_is_seen_and_else_it_is_refused(
    stat: dict[str, Any], group: str
) -> None:
    values = read("vars/main.yml")
    found = evaluated(values["log_export_audit_group"], log_export_audit={"stat": stat}) or ""
    assert found == group
    groups = evaluated(values["log_export_groups"], log_export_audit_log="/a", log_export_audit_group=found)
    assert groups == ["systemd-journal", group]
    (refusal,) = (each for each in read("tasks/present.yml") if each["name"].startswith("Refuse an audit"))
    allowed = evaluated(
        "{{ " + refusal["ansible.builtin.assert"]["that"] + " }}", log_export_audit_group=found
    )
    assert allowed is bool(group)


@pytest.mark.parametrize(
    ("sources", "folders", "fit"),
    [
        (["--journal", *SOCKET], {"a": "/srv/a"}, True),
        (["--journal", "a b"], {}, False),
        (["--socket", "/run/a\n"], {}, False),
        (["%h"], {}, False),
        ([], {"a": "/srv"}, False),
        ([], {"a": "/srv/a b"}, False),
        ([], {"A": "/srv/a"}, False),
    ],
)
def test_words_that_would_break_a_command_line_are_refused(
    sources: list[str], folders: dict[str, str], fit: bool
) -> None:
    wanted = read("tasks/present.yml")[0]["ansible.builtin.assert"]["that"]
    looked = [each for each in wanted if each.startswith(("log_export_options", "log_export_folders"))]
    assert len(looked) == 3
    values = {"log_export_options": sources, "log_export_folders": folders}
    assert all(evaluated("{{ " + each + " }}", **values) for each in looked) is fit


@pytest.fixture(scope="module")
def one_way_export(role_module: Callable[[str], Any]) -> Any:
    """The module."""
    return role_module("log_export/library/one_way_export.py")


RUNNING = {"ActiveState": "active", "running": "s"}


@pytest.mark.parametrize(
    ("state", "rewritten", "amiss", "reasons"),
    [
        (RUNNING, [], [], []),
        (RUNNING, ["/etc/file"], [], ["/etc/file was another"]),
        (RUNNING, [], ["no XDP program is at export0"], ["no XDP program is at export0"]),
        ({**RUNNING, "running": "other"}, [], [], ["unit runs by other files"]),
        ({**RUNNING, "ActiveState": "failed"}, [], [], ["unit is failed"]),
    ],
)
def test_everything_starts_anew_for_a_reason(
    one_way_export: Any,
    state: dict[str, str],
    rewritten: list[str],
    amiss: list[str],
    reasons: list[str],
) -> None:
    assert one_way_export.reasons_to_restart({"unit": state}, "s", rewritten, amiss) == reasons
