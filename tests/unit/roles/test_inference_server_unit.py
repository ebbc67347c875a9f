"""The systemd unit, rendered from the role's own variables, and the role's contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).parents[3] / "roles/inference_server"
TEMPLATE = "etc/systemd/system/appliance-inference.service.j2"

GIVEN = {
    "inference_server_release": "0123456789ab" + "c" * 52,
    "inference_server_model": "/var/lib/appliance/staged/x/payload/model/tiny.gguf",
    "inference_server_model_name": "demo",
    "inference_server_model_folder": "/var/lib/appliance/staged/x/payload/model",
    "inference_server_stamp": "f" * 64,
}


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROLE / name).read_text("utf-8"))
    return values


def unit(**changed: Any) -> dict[str, list[str]]:
    """Directives of the rendered unit by name, in order; continued lines joined."""
    values = {**read("defaults/main.yml"), **read("vars/engines/xllamacpp.yml"), **read("vars/main.yml")}
    values |= {"inference_server_folder": "/opt/appliance/inference/0123456789ab", **GIVEN, **changed}
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    surroundings = jinja2.Environment(  # noqa: S701 -- no HTML
        loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = surroundings.get_template(TEMPLATE).render(values).replace("\\\n", " ")
    directives: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            directives.setdefault(name, []).append(value)
    return directives


@pytest.mark.parametrize(
    ("directive", "values"),
    [
        ("User", ["appliance-inference"]),
        ("IPAddressDeny", ["any"]),
        ("IPAddressAllow", ["localhost"]),
        ("RestrictNetworkInterfaces", ["lo"]),
        ("SocketBindDeny", ["any"]),
        ("SocketBindAllow", ["ipv4:tcp:8000"]),
        ("RestrictAddressFamilies", ["AF_UNIX AF_INET"]),
        ("InaccessiblePaths", ["-/run/dbus -/run/systemd/resolve"]),
        ("ProtectSystem", ["strict"]),
        ("PrivateTmp", ["yes"]),
        ("NoNewPrivileges", ["yes"]),
        ("CapabilityBoundingSet", [""]),
        ("AmbientCapabilities", [""]),
        ("DevicePolicy", ["closed"]),
        ("PrivateDevices", ["yes"]),
        ("MemoryDenyWriteExecute", ["yes"]),
        ("RestrictNamespaces", ["yes"]),
        ("LockPersonality", ["yes"]),
        ("ProtectKernelLogs", ["yes"]),
        ("ProtectKernelModules", ["yes"]),
        ("ProtectKernelTunables", ["yes"]),
        ("SystemCallFilter", ["@system-service", "~@privileged @resources"]),
        ("UMask", ["0077"]),
        ("LimitCORE", ["0"]),
        ("Type", ["notify"]),
    ],
)
def test_the_unit_confines_the_engine(directive: str, values: list[str]) -> None:
    """The whole list, so that a directive lost in an edit is noticed without a node."""
    assert unit()[directive] == values


def test_the_engine_gets_an_absolute_model_path_and_runs_from_its_release() -> None:
    (command,) = unit()["ExecStart"]
    folder = "/opt/appliance/inference/0123456789ab"
    assert command.split()[:4] == [f"{folder}/venv/bin/python", "-I", "-B", f"{folder}/serve_xllamacpp.py"]
    assert f"--model {GIVEN['inference_server_model']} " in command


def test_an_engine_that_writes_code_or_needs_devices_gets_just_that() -> None:
    gpu = unit(
        inference_server_writes_code=True,
        inference_server_reads_proc=True,
        inference_server_devices=["/dev/nvidiactl rw", "/dev/nvidia0 rw"],
    )
    assert gpu["DeviceAllow"] == ["/dev/nvidiactl rw", "/dev/nvidia0 rw"]
    assert gpu["DevicePolicy"] == ["closed"]
    assert not {"PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset"} & gpu.keys()
    without = {"PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset", "DeviceAllow"}
    assert gpu.keys() - without == unit().keys() - without


def test_every_switch_against_phoning_home_reaches_the_process_and_has_a_reason() -> None:
    switches = read("vars/main.yml")["inference_server_switches"]
    assert {f'"{switch["name"]}={switch["value"]}"' for switch in switches} <= set(unit()["Environment"])
    assert all(switch["reason"] for switch in switches)
    names = [switch["name"] for switch in switches]
    assert len(names) == len(set(names))
    assert {
        *("DO_NOT_TRACK", "VLLM_NO_USAGE_STATS", "VLLM_HOST_IP", "RAY_USAGE_STATS_ENABLED"),
        *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
        *("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK"),
        *("LLAMA_OFFLINE", "OLLAMA_NO_CLOUD", "LITELLM_LOCAL_MODEL_COST_MAP"),
    } <= set(names)


def test_variables_that_open_a_way_are_taken_out() -> None:
    assert {"VLLM_SERVER_DEV_MODE", "VLLM_USE_MODELSCOPE", "https_proxy"} <= set(unit()["UnsetEnvironment"])


def test_the_stamp_is_in_the_process_environment() -> None:
    assert f"APPLIANCE_STAMP={GIVEN['inference_server_stamp']}" in unit()["Environment"]


def test_every_engine_says_all_the_unit_asks() -> None:
    known = read("vars/engines/xllamacpp.yml").keys()
    for path in (ROLE / "vars/engines").glob("*.yml"):
        values = read(f"vars/engines/{path.name}")
        assert values.keys() == known
        assert (ROLE / "files" / values["inference_server_launcher"]).is_file()


def test_engines_and_choices_agree() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    choices = options["inference_server_engine"]["choices"]
    assert sorted(choices) == sorted(path.stem for path in (ROLE / "vars/engines").glob("*.yml"))


def test_defaults_are_documented_with_their_values() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    assert documented == read("defaults/main.yml")


def test_the_readme_lists_every_setting() -> None:
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    table = re.findall(r"^\| `(\w+)` \|", (ROLE / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(options)
