"""The systemd unit, rendered from the role's own variables, and the role's contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nativetypes
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
    "inference_server_instance": {"name": "", "port": 8000},
}
RADIOLOGY = {"name": "radiology", "port": 8001}


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
        ("User", ["%N"]),
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
    without = {"PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset", "DeviceAllow", "After"}
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
        *("LLAMA_ARG_OFFLINE", "OLLAMA_NO_CLOUD", "LITELLM_LOCAL_MODEL_COST_MAP"),
        *("FLASHINFER_CUBINS_REPOSITORY", "OTEL_SDK_DISABLED"),
    } <= set(names)


def test_variables_that_open_a_way_are_taken_out() -> None:
    assert {
        *("VLLM_SERVER_DEV_MODE", "VLLM_USE_MODELSCOPE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "https_proxy")
    } <= set(unit()["UnsetEnvironment"])


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


def vllm(**changed: Any) -> dict[str, list[str]]:
    """The unit of vLLM; its arguments as Ansible would put them together."""
    engine = read("vars/engines/vllm.yml")
    words = ["--precision", "bf16", "--engine-socket", "%t/%N/engine.sock"]
    return unit(**{**engine, "inference_server_arguments": words, **changed})


def test_vllm_lives_in_a_network_of_its_own() -> None:
    """Then it may open ports as it pleases; what is common to all engines stays."""
    directives = vllm()
    assert directives["PrivateNetwork"] == ["yes"]
    assert directives["Requires"] == ["%N.socket"]
    assert "%N.socket" in directives["After"]
    assert not {"SocketBindDeny", "SocketBindAllow", "PrivateDevices"} & directives.keys()
    changed = {
        "SocketBindDeny",
        "SocketBindAllow",
        "PrivateDevices",
        "MemoryDenyWriteExecute",
        "ProcSubset",
    }
    assert unit().keys() - changed <= directives.keys()
    assert directives["IPAddressDeny"] == ["any"]
    assert directives["RestrictNetworkInterfaces"] == ["lo"]


def test_vllm_may_place_its_own_threads_and_nothing_of_the_system() -> None:
    base = ["@system-service", "~@privileged @resources"]
    assert unit()["SystemCallFilter"] == base
    assert vllm()["SystemCallFilter"] == [*base, "sched_setscheduler sched_setaffinity mbind set_mempolicy"]
    assert vllm()["RestrictRealtime"] == ["yes"]


def test_vllm_gets_nvidias_devices_and_no_others() -> None:
    directives = vllm()
    assert directives["DevicePolicy"] == ["closed"]
    assert all(
        each.startswith("char-nvidia") and each.endswith(" rw") for each in directives["DeviceAllow"]
    )
    assert {"char-nvidia-uvm rw", "char-nvidia-caps rw"} <= set(directives["DeviceAllow"])


def test_an_engine_on_gpus_starts_after_those_who_make_them_ready() -> None:
    """Before them CUDA finds no GPU, and the engine would use up the starts that it has."""
    made_ready = "nvidia-persistenced.service nvidia-fabricmanager.service"
    assert made_ready in vllm()["After"]
    assert made_ready in ollama()["After"]
    assert made_ready not in unit().get("After", [])


def test_answers_are_finished_before_the_unit_is_killed() -> None:
    directives = vllm()
    assert directives["KillMode"] == ["mixed"]
    assert directives["TimeoutStopSec"] == ["150"]
    assert unit()["TimeoutStopSec"] == ["30"]


def test_the_model_is_compared_before_every_start() -> None:
    for directives in (unit(), vllm()):
        (command,) = directives["ExecStartPre"]
        folder = "/opt/appliance/inference/0123456789ab"
        assert command.split() == [
            *(
                f"{folder}/venv/bin/python",
                "-I",
                "-B",
                f"{folder}/check_model.py",
                f"{folder}/model.sha256",
            ),
            GIVEN["inference_server_model_folder"],
        ]


def test_an_engine_is_told_its_own_options_and_variables() -> None:
    directives = vllm()
    assert directives["ExecStart"][0].endswith(" --engine-socket %t/%N/engine.sock")
    assert '"GLOO_SOCKET_IFNAME=lo"' in directives["Environment"]
    assert all(
        variable["reason"] for variable in read("vars/engines/vllm.yml")["inference_server_variables"]
    )


def test_a_teams_server_starts_after_the_gpus_are_cut_and_only_with_its_own_part() -> None:
    """Slices that are made anew have other UUIDs: none is written into the unit."""
    team = vllm(inference_server_instance=RADIOLOGY)
    assert team["Requires"] == ["%N.socket", "appliance-gpu-partition.service"]
    assert team["After"] == ["%N.socket", "appliance-gpu-partition.service"]
    assert team["EnvironmentFile"] == ["/run/appliance-gpu/radiology.env"]
    assert " --port 8001 " in team["ExecStart"][0]
    assert team["Description"][0].endswith(", for radiology")
    shared = vllm()
    assert "EnvironmentFile" not in shared
    assert shared["Requires"] == ["%N.socket"]
    assert not [each for each in shared["Environment"] if "CUDA_VISIBLE" in each]


def test_a_teams_server_may_open_no_gpu_unless_its_drop_in_says_which() -> None:
    """The drop-in is made at every start: where it is missing or not read yet, the unit is closed."""
    team = vllm(inference_server_instance=RADIOLOGY)
    assert team["DevicePolicy"] == ["closed"]
    assert "DeviceAllow" not in team
    assert "PrivateDevices" not in team, "which would hide what the drop-in allows"
    processors = unit(inference_server_instance=RADIOLOGY)
    assert processors["PrivateDevices"] == ["yes"]


def test_a_server_that_fails_is_started_again_but_not_for_ever() -> None:
    directives = vllm()
    assert (directives["Restart"], directives["RestartSec"]) == (["always"], ["5"])
    assert (directives["StartLimitBurst"], directives["StartLimitIntervalSec"]) == (["5"], ["300"])


def test_its_socket_is_on_loopback_and_goes_with_it() -> None:
    text = (ROLE / "templates/etc/systemd/system/appliance-inference.socket.j2").read_text("utf-8")
    assert "\nListenStream=127.0.0.1:{{ inference_server_instance.port }}\n" in text
    assert "\nPartOf=%N.service\n" in text
    assert "[Install]" not in text, "the service alone is enabled, and requires it"


def ollama(**changed: Any) -> dict[str, list[str]]:
    """The unit of Ollama; its arguments as Ansible puts them together."""
    engine = read("vars/engines/ollama.yml")
    values = {**read("defaults/main.yml"), **engine, **changed}
    values["inference_server_folder"] = "/opt/appliance/inference/0123456789ab"
    surroundings = jinja2.nativetypes.NativeEnvironment(undefined=jinja2.StrictUndefined)
    words = surroundings.from_string(engine["inference_server_arguments"]).render(values)
    return unit(**{**engine, "inference_server_arguments": words, **changed})


def test_ollama_is_held_as_tight_as_vllm() -> None:
    held, vllms = ollama(), vllm()
    differ = {"ExecStart", "ExecStartPre", "Environment", "SystemCallFilter", "Description"}
    assert held.keys() == vllms.keys()
    assert {name: held[name] for name in held.keys() - differ} == {
        name: vllms[name] for name in held.keys() - differ
    }
    assert held["SystemCallFilter"] == [
        *vllms["SystemCallFilter"][:2],
        "sched_setaffinity mbind set_mempolicy",
    ]


def test_ollama_is_run_by_the_nodes_own_python_on_what_was_signed() -> None:
    folder = "/opt/appliance/inference/0123456789ab"
    (before,), (command,) = ollama()["ExecStartPre"], ollama()["ExecStart"]
    assert before.split()[:4] == ["/usr/bin/python3", "-I", "-B", f"{folder}/check_model.py"]
    assert command.split() == [
        *("/usr/bin/python3", "-I", "-B", f"{folder}/serve_ollama.py"),
        *("--model", GIVEN["inference_server_model"], "--name", "demo", "--port", "8000"),
        *("--context", "8192", "--slots", "2"),
        *("--program", f"{folder}/ollama/bin/ollama", "--digests", f"{folder}/model.sha256"),
        *("--store", "%t/%N/models", "--drain", "120", "--load", "1800"),
    ]
    (command,) = ollama(inference_server_gpus=True)["ExecStart"]
    assert command.split()[-3:] == ["--load", "1800", "--gpus"]


def test_the_archive_must_have_what_ollama_runs_models_with() -> None:
    engine, (_, unpack) = read("vars/engines/ollama.yml"), read("tasks/engine.yml")
    assert engine["inference_server_needs"] == ["bin/ollama", "lib/ollama/llama-server"]
    assert unpack["released_program"]["needs"] == "{{ inference_server_needs }}"


def test_ollama_gets_nvidias_devices_and_is_asked_on_a_path_that_it_has() -> None:
    assert ollama()["DeviceAllow"] == vllm()["DeviceAllow"]
    paths = {
        path.stem: read(f"vars/engines/{path.name}")["inference_server_health"]
        for path in (ROLE / "vars/engines").glob("*.yml")
    }
    assert paths == {"ollama": "/api/version", "vllm": "/health", "xllamacpp": "/health"}


def test_every_file_that_launchers_import_is_placed_and_in_the_stamp() -> None:
    tasks, stamp = ((ROLE / name).read_text("utf-8") for name in ("tasks/engine.yml", "vars/main.yml"))
    for path in (ROLE / "files").glob("*.py"):
        if not path.stem.startswith("serve_"):
            assert f"lookup('ansible.builtin.file', '{path.name}', rstrip=false)" in tasks
            assert f"lookup('ansible.builtin.file', '{path.name}')" in stamp
