#!/usr/bin/env python3
"""Cut this node's GPUs as the installation said, and hand each team's server its part.

Run by ``appliance-gpu-partition.service`` at every start of the node, before the servers: a GPU of the
Hopper generation forgets slices and MIG mode when it is reset, and slices made anew have other UUIDs.  So
units read these from files below ``/run``, which are written here and nowhere else.

Commands: ``apply``; ``check`` (exit 0: nothing to do; 1: says what differs; 2: cannot be done now, and
why); ``prove`` (CUDA finds each team's part); ``clear`` (all GPUs whole, nothing handed to anybody).
``check`` and ``prove`` change nothing.

What fails leaves every server stopped and nothing handed out: a team must not find itself on another's
slice.  Anybody else's process on a GPU that is to be cut anew stops ``apply`` before a GPU is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # isolated Python leaves it out

from gpu_layout import (
    Gpu,
    Trouble,
    Wanted,
    capabilities,
    creation,
    differences,
    drop_in,
    environment,
    fits,
    minors,
    read_gpus,
    read_wanted,
    shares,
)

SECONDS = 300
#: nvidia-smi(1), "RETURN VALUE": a query to find an object was unsuccessful.
NOT_FOUND = 6
#: Who uses GPUs besides the servers, and is started again: DCGM, its exporter, NVIDIA's system management.
CLIENTS = ("nvsm.service", "dcgm-exporter.service", "nvidia-dcgm-exporter.service", "nvidia-dcgm.service")
#: Run by a Python of its own with a team's variables; what cuInit takes is given back.
COUNT = (
    "import ctypes,sys\n"
    "cuda=ctypes.CDLL('libcuda.so.1'); number=ctypes.c_int()\n"
    "fault=cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number))\n"
    "sys.exit(f'CUDA error {fault}') if fault else print(number.value)\n"
)
SERVERS = "appliance-inference*.service"
#: What CUDA opens besides GPUs.  Its first call would have them made, by a program that a server may not
#: run; and what is missing as a unit starts, systemd leaves out of what the unit may open.
UNIFIED = ("nvidia-uvm", "nvidia-uvm-tools")


@dataclass(frozen=True)
class Places:
    """Where everything lies; ``root`` is ``/`` but in tests."""

    root: Path = Path("/")

    @property
    def layout(self) -> Path:
        return self.root / "etc/appliance/gpu/mig-parted.yaml"

    @property
    def settings(self) -> Path:
        return self.root / "etc/appliance/gpu/teams.json"

    @property
    def handed(self) -> Path:
        """Folder of the files that units read."""
        return self.root / "run/appliance-gpu"

    @property
    def units(self) -> Path:
        return self.root / "run/systemd/system"

    @property
    def minors(self) -> Path:
        return self.root / "proc/driver/nvidia-caps/mig-minors"

    @property
    def capabilities(self) -> Path:
        return self.root / "proc/driver/nvidia/capabilities"

    @property
    def devices(self) -> Path:
        return self.root / "dev"

    @property
    def processes(self) -> Path:
        return self.root / "proc"


def run(*command: str, allowed: tuple[int, ...] = (0,)) -> str:
    """Standard output; Trouble with what the program wrote when it fails."""
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as fault:
        raise Trouble(f"{command[0]} is not on the node: name its package in the definition") from fault
    except subprocess.TimeoutExpired as fault:
        raise Trouble(f"{shown} does not end within {SECONDS} s: look into journalctl -k") from fault
    if done.returncode not in allowed:
        said = " ".join((done.stdout + done.stderr).split())
        raise Trouble(f"{shown} ended with {done.returncode}: {said[-400:]}")
    return done.stdout


def look() -> list[Gpu]:
    """Every GPU as it is."""
    return read_gpus(run("nvidia-smi", "-L"), run("nvidia-smi", "-q", "-x"))


def wanted(places: Places) -> Wanted:
    """What the installation wrote."""
    try:
        return read_wanted(places.layout.read_text("utf-8"), places.settings.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise Trouble(f"the layout cannot be read: {fault}; install again") from fault


def strangers(gpus: list[Gpu], places: Places) -> list[str]:
    """Processes on these GPUs that belong to no unit that is stopped for this."""
    names = "|".join(re.escape(each) for each in (*CLIENTS, "nvidia-persistenced.service"))
    ours = re.compile(rf"/({names}|appliance-inference[a-z0-9-]*\.service)(/|$)", re.MULTILINE)
    found = []
    for gpu in gpus:
        for pid in gpu.processes:
            try:
                group = (places.processes / str(pid) / "cgroup").read_text("utf-8")
            except OSError:  # it ended meanwhile
                continue
            if not ours.search(group):
                found.append(f"process {pid} uses GPU {gpu.index}")
    return found


def refuse_strangers(gpus: list[Gpu], want: Wanted, places: Places) -> None:
    """Raise Trouble when somebody else uses a GPU that is to be cut anew."""
    changing = [gpu for gpu in gpus if not fits(gpu, want.layout[gpu.index])]
    if found := strangers(changing, places):
        raise Trouble(f"{'; '.join(found)}: end it; nothing was changed")


def stop_clients() -> list[str]:
    """Stop who runs and uses GPUs; the units that are to be started again."""
    listed = run(
        *("systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating"),
        *(SERVERS, *CLIENTS),
    )
    units = [line.split()[0] for line in listed.splitlines() if line.strip()]
    if units:
        run("systemctl", "stop", "--", *units)
    return units


def start_again(stopped: list[str], known: set[str]) -> None:
    """Start who was stopped, but servers that nobody asks for any more.

    Not waited for: they come after this very unit, which is not done before this ends.
    """
    if units := [unit for unit in stopped if unit in known]:
        run("systemctl", "start", "--no-block", "--", *units)


def cut(gpus: list[Gpu], want: Wanted) -> None:
    """Bring GPUs to their layout, those that are not; one after the other.

    Raises:
        Trouble: one refuses, or its MIG mode waits for a reset.
    """
    for gpu in gpus:
        cuts = want.layout[gpu.index]
        if fits(gpu, cuts):
            continue
        one = ("-i", str(gpu.index))
        if gpu.mig:
            # Compute instances first: a GPU instance that has some is in use.
            run("nvidia-smi", "mig", *one, "-dci", allowed=(0, NOT_FOUND))
            run("nvidia-smi", "mig", *one, "-dgi", allowed=(0, NOT_FOUND))
        if gpu.mig != bool(cuts) or gpu.pending:
            said = run("nvidia-smi", *one, "-mig", "1" if cuts else "0")
            # nvidia-smi ends with 0 where the mode only waits; what holds, the report says.
            if (now := look()[gpu.index]).pending or now.mig != bool(cuts):
                raise Trouble(
                    f"GPU {gpu.index}: MIG mode is to be {'on' if cuts else 'off'} and waits for a reset "
                    f"of the GPU: restart the node ({' '.join(said.split())[:200]})"
                )
        if cuts:
            run("nvidia-smi", "mig", *one, "-cgi", creation(cuts), "-C")


def to_hand_out(
    gpus: list[Gpu], want: Wanted, places: Places
) -> tuple[dict[Path, str], dict[Path, tuple[str, ...]]]:
    """The files that units shall read, by their path; and missing device nodes, with what makes them."""
    found: dict[Path, str] = {}
    nodes: dict[Path, tuple[str, ...]] = {}
    parts = shares(gpus, want)
    sliced = any(part for share in parts.values() for _, part in share)
    numbers = minors(places.minors.read_text("ascii")) if sliced else {}
    for team in want.teams:
        share = parts[team.name]
        found[places.handed / f"{team.name}.env"] = environment(share)
        found[places.units / f"{team.unit}.d" / "50-gpus.conf"] = drop_in(share, numbers)
        nodes |= {places.devices / name: ("nvidia-modprobe", "-u", "-c", "0") for name in UNIFIED}
        for name in capabilities(share):
            gpu, *rest = name.split("/")
            capability = str(places.capabilities / gpu / "mig" / "/".join(rest))
            node = places.devices / f"nvidia-caps/nvidia-cap{numbers[name]}"
            nodes[node] = ("nvidia-modprobe", "-f", capability)
    return found, {node: maker for node, maker in nodes.items() if not node.exists()}


def make_node(node: Path, maker: tuple[str, ...]) -> None:
    """Have the driver's own helper make a device node; the server may not.

    Raises:
        Trouble: it does not.
    """
    if not node.exists():  # one call makes both of CUDA's
        run(*maker)
    if not node.exists():
        raise Trouble(f"{node} is not there after nvidia-modprobe made it")


def _paths(places: Places) -> list[Path]:
    return [*places.handed.glob("*.env"), *places.units.glob("appliance-inference*.d/50-gpus.conf")]


def handed(places: Places) -> dict[Path, str]:
    """What was handed out and is still there."""
    return {path: path.read_text("utf-8") for path in _paths(places)}


def take_back(places: Places) -> None:
    """Nothing is handed to anybody."""
    for path in _paths(places):
        path.unlink()


def write(files: dict[Path, str]) -> None:
    """Write files whole; folders that are missing are root's and open to read."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)


def apply(places: Places) -> str:
    """Bring everything about; what was done.

    Raises:
        Trouble: it cannot be; then nothing is handed out.
    """
    stopped: list[str] = []
    try:
        want, gpus = wanted(places), look()
        differing = differences(gpus, want)
        if differing:
            refuse_strangers(gpus, want, places)
            stopped = stop_clients()
            cut(gpus, want)
            gpus = look()
            if left := differences(gpus, want):
                raise Trouble(f"not as wanted after cutting: {'; '.join(left)}")
        files, missing = to_hand_out(gpus, want, places)
        for node, maker in missing.items():
            make_node(node, maker)
        if files != handed(places):
            take_back(places)
            write(files)
            run("systemctl", "daemon-reload")
    except BaseException as fault:
        take_back(places)  # what lies there is taken for handed out, by servers and by the next run
        try:
            stop_clients()
        except Trouble as also:
            raise Trouble(f"{fault}; and servers may still run: {also}") from fault
        raise
    start_again(stopped, {*CLIENTS, *(team.unit for team in want.teams)})
    return "; ".join(differing) or "as wanted"


def check(places: Places) -> list[str]:
    """What apply would change; nothing is.

    Raises:
        Trouble: apply would refuse.
    """
    want, gpus = wanted(places), look()
    if found := differences(gpus, want):
        refuse_strangers(gpus, want, places)
        return found
    files, missing = to_hand_out(gpus, want, places)
    found = [f"{node} is missing" for node in missing]
    return found + (["what units are handed is another"] if files != handed(places) else [])


def prove(places: Places) -> str:
    """Call CUDA as each team's server will: nvidia-smi alone can look healthy.

    Raises:
        Trouble: it does not find a team's part, and nothing but that.
    """
    want = wanted(places)
    for team in want.teams:
        variables = (places.handed / f"{team.name}.env").read_text("utf-8").strip()
        found = run("/usr/bin/env", variables, "/usr/bin/python3", "-I", "-c", COUNT).strip()
        if found != str(len(team.gpus)):
            raise Trouble(
                f"{team.name}: CUDA finds {found} devices by {variables}, wanted {len(team.gpus)}"
            )
    return f"CUDA finds the parts of {len(want.teams)} teams"


def clear(places: Places) -> str:
    """All GPUs whole, nothing handed to anybody."""
    gpus = look()
    whole = Wanted(tuple(() for _ in gpus), ())
    refuse_strangers(gpus, whole, places)
    stopped = stop_clients()
    take_back(places)
    cut(gpus, whole)
    run("systemctl", "daemon-reload")
    start_again(stopped, {*CLIENTS})  # servers are the role inference_server's, which knows how they start
    return "all GPUs are whole"


def main(arguments: list[str], places: Places = Places()) -> int:
    """Exit status: 0 done or nothing to do, 1 something differs (``check``), 2 it cannot be done."""
    try:
        if arguments == ["check"]:
            found = check(places)
            sys.stdout.writelines(f"{line}\n" for line in found)
            return 1 if found else 0
        acts = {"apply": apply, "prove": prove, "clear": clear}
        if len(arguments) != 1 or arguments[0] not in acts:
            print("apply, check, prove or clear", file=sys.stderr)
            return 2
        print(acts[arguments[0]](places))
    except (Trouble, OSError) as fault:
        print(fault, file=sys.stderr)
        return 2
    except Exception as fault:  # noqa: BLE001 - Python's own status for it is 1, "something differs"
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
