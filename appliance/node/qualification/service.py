"""Judges the running inference service: whose it is, what it was started with, what holds it.

Judged is the live process, as the kernel shows it, and not the unit file: a file says what would be.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.definition.partition import UNIT
from appliance.node.qualification.finding import Finding, lines, not_run, together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appliance.definition.partition import Instance
    from appliance.node.qualification.ask import Answers

_PROPERTIES: Final = (
    "LoadState,ActiveState,SubState,UnitFileState,MainPID,User,ControlGroup,"
    "IPAddressAllow,IPAddressDeny,RestrictNetworkInterfaces,DevicePolicy,DeviceAllow"
)

#: Of the server, and of every other that the node has a unit for, after a line with the unit's name: the
#: unit's properties; then the main process's status, user name, environment and command line, each after a
#: line of its own.  Works, and says less, when there is no unit or no process.
LIVE: Final = f"""
for unit in {UNIT} $(systemctl list-unit-files --plain --no-legend 'appliance-inference-*.service' \\
    | awk '{{ print $1 }}'); do
  echo "##### $unit"
  systemctl show -p {_PROPERTIES} -- "$unit"
  pid=$(systemctl show -p MainPID --value -- "$unit")
  [ "${{pid:-0}}" -gt 0 ] || continue
  echo "=== status"; cat "/proc/$pid/status"
  echo "=== pids"; cat "/sys/fs/cgroup$(systemctl show -p ControlGroup --value -- "$unit")/cgroup.procs"
  echo "=== user"; getent passwd "$(awk '/^Uid:/ {{ print $2 }}' "/proc/$pid/status")"
  echo "=== environment"; tr '\\0' '\\n' < "/proc/$pid/environ"
  echo "=== command"; tr '\\0' '\\n' < "/proc/$pid/cmdline"
done
true
"""

#: Switches that must be set in the process's environment (role inference_server says what each is for).
SWITCHES: Final[dict[str, str]] = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLASHINFER_CUBINS_REPOSITORY": "http://127.0.0.1:9/",
    "OTEL_SDK_DISABLED": "true",
    "LLAMA_ARG_OFFLINE": "1",
    "LLAMA_OFFLINE": "1",
    "OLLAMA_NO_CLOUD": "1",
}
#: Variables that would open a way and must not be there.
OPENINGS: Final = frozenset(
    {
        "VLLM_SERVER_DEV_MODE",
        "VLLM_USE_MODELSCOPE",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        *(name for word in ("HTTP", "HTTPS", "ALL") for name in (f"{word}_PROXY", f"{word}_proxy".lower())),
    }
)


@dataclass(frozen=True)
class Service:
    """The unit and its main process; ``pid`` 0: nothing runs, and the process's parts are empty."""

    unit: dict[str, str]
    status: dict[str, str]
    pids: frozenset[int]
    user: str
    environment: dict[str, str]
    command: tuple[str, ...]

    @property
    def pid(self) -> int:
        return int(self.unit.get("MainPID") or 0)

    @property
    def devices(self) -> tuple[str, ...]:
        """What its unit may open besides what every program may, by path or by kind (DeviceAllow=)."""
        return tuple(line.split()[0] for line in self.unit.get("DeviceAllow", "").splitlines() if line)


def parse_services(text: str) -> dict[str, Service]:
    """What ``LIVE`` prints, by unit; the server's own stands there even where nothing was printed of it."""
    parts = re.split(r"^##### (\S+)\n", text, flags=re.MULTILINE)
    found = {UNIT: parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))
    return {unit: parse_live(said) for unit, said in found.items()}


def judge_each(
    wanted: Sequence[Instance],
    services: Mapping[str, Service],
    judge: Callable[[Service, Instance], Finding],
) -> Finding:
    """What is to hold of every server that the inventory asks for; one that it does not must not run."""
    absent = parse_live("")
    found = {each.unit: judge(services.get(each.unit, absent), each) for each in wanted}
    for unit in sorted(set(services) - set(found)):
        if services[unit].pid:
            found[unit] = Finding(
                kept=False, found="runs", wanted="no server that the inventory does not ask for"
            )
    return together(found)


def parse_live(text: str) -> Service:
    """What ``LIVE`` prints of one unit."""
    parts = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)
    sections = {"unit": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))
    unit: dict[str, str] = {}
    for name, value in (line.split("=", 1) for line in sections["unit"].splitlines() if "=" in line):
        # Of a list, such as devices, each entry has a line of its own.
        unit[name] = f"{unit[name]}\n{value}" if name in unit else value
    return Service(
        unit=unit,
        status={
            name: value.strip()
            for name, _, value in (line.partition(":") for line in sections.get("status", "").splitlines())
        },
        pids=frozenset(int(each) for each in sections.get("pids", "").split()),
        user=sections.get("user", "").strip(),
        environment=dict(
            line.split("=", 1) for line in sections.get("environment", "").splitlines() if "=" in line
        ),
        command=tuple(sections.get("command", "").splitlines()),
    )


def _stopped(wanted: str) -> Finding:
    return not_run(f"{UNIT} has no running process", wanted=wanted)


def judge_active(service: Service) -> Finding:
    """It runs now, and starts with the node."""
    names = ("LoadState", "ActiveState", "SubState", "UnitFileState")
    found = ", ".join(f"{name}={service.unit.get(name, '')}" for name in names)
    wanted = "LoadState=loaded, ActiveState=active, SubState=running, UnitFileState=enabled"
    return Finding(found == wanted, found, wanted)


def judge_user(service: Service) -> Finding:
    """It runs as a user of its own, who can do nothing else."""
    wanted = (
        f"all identities of the process are the unit's user {service.unit.get('User')!r}, who cannot log in"
    )
    if not service.pid:
        return _stopped(wanted)
    name, _, uid, *_, shell = service.user.split(":") if service.user.count(":") == 6 else [""] * 7  # noqa: PLR2004
    wrong = []
    if set(service.status.get("Uid", "").split()) != {uid} or uid == "0":
        wrong.append(f"Uid {service.status.get('Uid', 'unknown')} of {name or 'nobody known'}")
    if not name or name != service.unit.get("User"):
        wrong.append(
            f"runs as {name or 'an unknown user'}, the unit names {service.unit.get('User') or 'none'}"
        )
    if name and not shell.endswith(("/nologin", "/false")):
        wrong.append(f"shell {shell}")
    return Finding(not wrong, lines(wrong, otherwise=f"{name}, uid {uid}, shell {shell}"), wanted)


def judge_model_path(service: Service, path: str) -> Finding:
    """The model is the signed one, named by its whole path: a bare name may be looked up online."""
    wanted = f"{path} in the process's command line, once, and no other model"
    if not service.pid:
        return _stopped(wanted)
    words = [*service.command, ""]
    models = [after for word, after in pairwise(words) if word in {"--model", "-m"}]
    models += [word.partition("=")[2] for word in words if word.startswith("--model=")]
    return Finding(models == [path], lines(models, otherwise=shlex.join(service.command)), wanted)


def judge_switches(service: Service) -> Finding:
    """Every switch against phoning home is set in the live process, and no relay is."""
    wanted = " ".join(f"{name}={value}" for name, value in SWITCHES.items()) + "; no proxy, no other hub"
    if not service.pid:
        return _stopped(wanted)
    environment = service.environment
    wrong = [
        f"{name}={environment[name]}, wanted {value}" if name in environment else f"{name} is not set"
        for name, value in SWITCHES.items()
        if environment.get(name) != value
    ]
    wrong += [f"{name} is set" for name in sorted(OPENINGS & environment.keys())]
    return Finding(
        not wrong, lines(wrong, otherwise=f"all {len(SWITCHES)} switches set, no way opened"), wanted
    )


def judge_confined(service: Service) -> Finding:
    """The kernel holds the process: no capabilities, filtered system calls, denied addresses."""
    wanted = (
        "CapEff, CapPrm, CapBnd and CapAmb 0, NoNewPrivs 1, Seccomp 2, "
        "and the unit denies all addresses but loopback"
    )
    if not service.pid:
        return _stopped(wanted)
    wrong = [
        f"{name} {service.status.get(name, 'unknown')}"
        for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")
        if set(service.status.get(name, "x")) != {"0"}
    ]
    for name, value in (("NoNewPrivs", "1"), ("Seccomp", "2")):
        if service.status.get(name) != value:
            wrong.append(f"{name} {service.status.get(name, 'unknown')}")
    # systemd spells "any" and "localhost" as the networks they stand for.
    denied, allowed = (set(service.unit.get(f"IPAddress{word}", "").split()) for word in ("Deny", "Allow"))
    if not ({"::/0", "0.0.0.0/0"} <= denied or "any" in denied):
        wrong.append(f"IPAddressDeny={' '.join(sorted(denied))}")
    if not allowed <= {"127.0.0.0/8", "::1/128", "localhost"}:
        wrong.append(f"IPAddressAllow={' '.join(sorted(allowed))}")
    return Finding(not wrong, lines(wrong, otherwise="held as wanted"), wanted)


def judge_answer(answers: Answers, model: str) -> Finding:
    """The model answers what it is asked, under the name that was signed."""
    wanted = f"status 200 from {answers.path} with {answers.wanted}, and a model named {model!r}"
    answer = answers.said
    if answer["status"] != 200:  # noqa: PLR2004 - HTTP
        trouble = str(answer["trouble"] or "no trouble named")[:300]
        return Finding(kept=False, found=f"status {answer['status'] or 'none'}: {trouble}", wanted=wanted)
    said = "no text" if answers.content is None else answers.content.strip()
    models = ", ".join(answers.names) or "none"
    of = "" if answers.heard is None else f" of {answers.heard:g} s of sound"
    found = f"models {models}; after {answer['seconds']:.1f} s it said{of}: {said[:200] or 'nothing'}"
    # Ollama tells the tag too, and knows no other here.
    named = answers.names in ([model], [f"{model}:latest"])
    return Finding(answers.proper and named, found, wanted)
