"""Simulated GPUs: what `nvidia-smi`, `nvidia-modprobe` and `systemctl` would answer; no GPU was near this.

Speaks as recorded output does (``recorded/README.md``), and keeps its state from one command to the next.
Places of slices are those of the table that the program plans with, so what it allows is created, and what
overlaps is refused; everything else of a driver is left out.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.hardware.gpus import find_gpu, find_slice

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = find_gpu("h100-sxm")
#: NVML's return codes, as nvidia-smi ends with them (nvidia-smi(1), "RETURN VALUE"; nvmlReturn_t).
INSUFFICIENT, NOT_FOUND, IN_USE = 4, 6, 19
SPACE = uuid.UUID("00000000-0000-0000-0000-0000000000aa")


@dataclass
class Slice:
    """A slice with its compute instance."""

    name: str
    start: int
    instance: int
    uuid: str


@dataclass
class Gpu:
    """``used``: processes that use it."""

    mig: bool = False
    pending: bool = False
    slices: list[Slice] = field(default_factory=list)
    used: list[int] = field(default_factory=list)


@dataclass
class SimulatedGpus:
    """A node with these GPUs.

    ``root``: the folder that stands for the node's ``/``.  ``active``: units at work; ``starting``: those
    between two tries; ``turned``: GPUs are reported, and their device nodes counted, from the last to the
    first; ``creates``: how many of the slices asked for are made, without a word; ``needs_reset``: MIG mode
    only waits; ``refuses``: a word, with which a program fails; ``cuda``: how many devices CUDA finds;
    ``told``: every command, but those that only ask.
    """

    root: Path
    gpus: list[Gpu]
    active: list[str] = field(default_factory=list)
    starting: list[str] = field(default_factory=list)
    turned: bool = False
    creates: int = 99
    needs_reset: bool = False
    refuses: str = "nothing"
    cuda: str = "1\n"
    told: list[str] = field(default_factory=list)
    made: int = 0

    def restart(self) -> None:
        """The node starts anew: slices and MIG mode are gone, and what was written below /run."""
        self.gpus = [Gpu() for _ in self.gpus]
        self.active.clear()
        for path in sorted((self.root / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def run(self, *command: str, trouble: type[Exception], allowed: tuple[int, ...] = (0,)) -> str:
        """In place of the program's own ``run``."""
        program, *words = command
        acts: dict[str, Callable[[list[str]], tuple[int, str]]] = {
            "nvidia-smi": self._smi,
            "systemctl": self._systemctl,
            "nvidia-modprobe": self._modprobe,
            "/usr/bin/env": lambda _words: (0, self.cuda),
        }
        if words[0] not in {"-L", "-q", "list-units"}:
            self.told.append(" ".join(command[:7]).partition(" import")[0])
        status, said = acts[program](words)
        if status not in allowed:
            raise trouble(f"{' '.join(command)} ended with {status}: {said}")
        return said

    def _smi(self, words: list[str]) -> tuple[int, str]:
        if words in (["-L"], ["-q", "-x"]):
            return 0, self.listing() if words == ["-L"] else self.report()
        index = int(words[words.index("-i") + 1])
        gpu = self.gpus[index]
        if self.refuses in words:
            return 1, f"Unable to do this on GPU {index:2}: Unknown Error"
        if "-mig" in words:
            return self._mode(gpu, on=words[-1] == "1")
        if "-cgi" in words:
            return self._create(index, gpu, words[words.index("-cgi") + 1])
        return self._destroy(index, gpu, words)

    def _mode(self, gpu: Gpu, *, on: bool) -> tuple[int, str]:
        gpu.pending = on
        if self.needs_reset or gpu.used:
            return 0, "Warning: MIG mode is in pending enable state for GPU:In use by another client"
        gpu.mig, gpu.slices = on, []
        return 0, "All done."

    @staticmethod
    def _destroy(index: int, gpu: Gpu, words: list[str]) -> tuple[int, str]:
        if not gpu.slices:
            return NOT_FOUND, "No GPU instances found: Not Found"
        if gpu.used:
            return (
                IN_USE,
                f"Unable to destroy an instance of GPU {index:2}: In use by another client",
            )
        if "-dgi" in words:
            gpu.slices = []
        return 0, ""

    def _create(self, index: int, gpu: Gpu, wanted: str) -> tuple[int, str]:
        for each in wanted.split(",")[: self.creates]:
            name, _, place = each.partition(":")
            part, start = find_slice(MODEL, name), int(place)
            room = set(range(start, start + part.width))
            taken = {
                at
                for one in gpu.slices
                for at in range(one.start, one.start + find_slice(MODEL, one.name).width)
            }
            if not gpu.mig or start not in part.starts or taken & room:
                return (
                    INSUFFICIENT,
                    f"Unable to create a GPU instance on GPU {index:2}: Insufficient Resources",
                )
            self.made += 1  # what is made anew has another UUID
            instance = {8: 0, 4: 1, 2: 3, 1: 7}[part.width] + start // part.width
            gpu.slices.append(Slice(name, start, instance, f"MIG-{uuid.uuid5(SPACE, str(self.made))}"))
        gpu.slices.sort(key=lambda one: one.instance)
        return 0, ""

    def _systemctl(self, words: list[str]) -> tuple[int, str]:
        units = words[words.index("--") + 1 :] if "--" in words else []
        if self.refuses in words:
            return 1, f"Failed to {self.refuses}: Connection timed out"
        if words[0] == "list-units":
            states = (
                next(word for word in words if word.startswith("--state=")).partition("=")[2].split(",")
            )
            listed = [("active", unit) for unit in self.active if "active" in states]
            listed += [("activating", unit) for unit in self.starting if "activating" in states]
            return 0, "".join(f"{unit} loaded {state} some\n" for state, unit in listed)
        if words[0] == "stop":
            self.active = [unit for unit in self.active if unit not in units]
            self.starting = [unit for unit in self.starting if unit not in units]
            for gpu in self.gpus:
                gpu.used = [
                    pid for pid in gpu.used if (self.root / "proc" / str(pid) / "stranger").exists()
                ]
        if words[0] == "start":
            self.active += units
        return 0, ""

    def _modprobe(self, words: list[str]) -> tuple[int, str]:
        if self.refuses in words:
            return 1, ""
        if words == ["-u", "-c", "0"]:
            for name in ("nvidia-uvm", "nvidia-uvm-tools"):
                (self.root / "dev" / name).touch()
            return 0, ""
        parts = Path(words[1]).relative_to(self.root / "proc/driver/nvidia/capabilities").parts
        name = "/".join(part for part in parts if part != "mig")
        table = (self.root / "proc/driver/nvidia-caps/mig-minors").read_text().splitlines()
        number = dict(line.split() for line in table)[name]
        (self.root / f"dev/nvidia-caps/nvidia-cap{number}").touch()
        return 0, ""

    def listing(self) -> str:
        """``nvidia-smi -L``."""
        lines = []
        for index, gpu in enumerate(self.gpus):
            lines.append(f"GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {gpu_uuid(index)})")
            lines += [
                f"  MIG {part.name:<11} Device {number:>2}: (UUID: {part.uuid})"
                for number, part in enumerate(gpu.slices)
            ]
        return "\n".join(lines)

    def report(self) -> str:
        """``nvidia-smi -q -x``, of it what is read."""
        word = {True: "Enabled", False: "Disabled"}
        gpus = []
        numbered = list(enumerate(self.gpus))
        for index, gpu in reversed(numbered) if self.turned else numbered:
            minor = len(numbered) - 1 - index if self.turned else index
            parts = "".join(
                f"<mig_device><index>{number}</index><gpu_instance_id>{part.instance}</gpu_instance_id>"
                "<compute_instance_id>0</compute_instance_id></mig_device>"
                for number, part in enumerate(gpu.slices)
            )
            used = "".join(f"<process_info><pid>{pid}</pid></process_info>" for pid in gpu.used)
            gpus.append(
                f"<gpu><mig_mode><current_mig>{word[gpu.mig]}</current_mig>"
                f"<pending_mig>{word[gpu.pending]}</pending_mig></mig_mode>"
                f"<mig_devices>{parts or 'None'}</mig_devices><uuid>{gpu_uuid(index)}</uuid>"
                f"<minor_number>{minor}</minor_number><processes>{used}</processes></gpu>"
            )
        return f"<nvidia_smi_log>{''.join(gpus)}</nvidia_smi_log>"


def gpu_uuid(index: int) -> str:
    """A GPU keeps its own."""
    return f"GPU-{uuid.uuid5(SPACE, f'gpu {index}')}"


def simulated(root: Path, gpus: int) -> SimulatedGpus:
    """A node whose driver knows every capability that its GPUs can have."""
    names = [
        f"gpu{gpu}/gi{instance}/{rest}"
        for gpu in range(gpus)
        for instance in range(15)
        for rest in ("access", *(f"ci{number}/access" for number in range(8)))
    ]
    table = "".join(f"{name} {number}\n" for number, name in enumerate(["config", "monitor", *names], 1))
    for folder in ("proc/driver/nvidia-caps", "dev/nvidia-caps", "run/systemd/system", "etc/appliance/gpu"):
        (root / folder).mkdir(parents=True)
    (root / "proc/driver/nvidia-caps/mig-minors").write_text(table)
    return SimulatedGpus(root, [Gpu() for _ in range(gpus)])


def install(root: Path, values: dict[str, Any]) -> None:
    """The two files that the role writes, of ``Partition.for_roles``."""
    settings = {name: values[name] for name in ("layout", "teams")}
    (root / "etc/appliance/gpu/mig-parted.yaml").write_text(values["mig_parted"])
    (root / "etc/appliance/gpu/teams.json").write_text(json.dumps(settings))
