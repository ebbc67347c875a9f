"""Things that must fail, tried on the node: starting what is masked, reading memory, cores, /tmp.

One script of the standard library, sent over standard input.  What it makes (a folder in /tmp, processes
of nobody's) it takes away again; a unit is asked to start only if systemd has it masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.node.qualification.finding import Finding, not_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.node.probe import Runs

#: Runs on the node, as root.
SCRIPT: Final = r"""
import ctypes, errno, os, shutil, signal, subprocess, tempfile

NOBODY = 65534
PTRACE_ATTACH, PTRACE_DETACH = 16, 17

def quiet(command, **more):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)

def starts(units):
    started, refused = [], []
    for unit in units:
        # Targets are not tried: a mistake would reboot.
        if not unit.endswith((".service", ".socket", ".timer", ".path")):
            continue
        show = ["systemctl", "show", "-p", "LoadState", "--value", "--", unit]
        if quiet(show).stdout.strip() != "masked":
            continue
        done = quiet(["systemctl", "start", "--", unit])
        (refused if done.returncode else started).append(unit)
        if not done.returncode:
            quiet(["systemctl", "stop", "--", unit])
    return started, refused

def attach(victim, user):
    # In a process of its own; its exit status is the error of ptrace(2), 0 for none.
    child = os.fork()
    if child == 0:
        try:
            if user:
                os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
            libc = ctypes.CDLL(None, use_errno=True)
            libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
            failed = libc.ptrace(PTRACE_ATTACH, victim, None, None)
            error = ctypes.get_errno() if failed else 0
            if not failed:
                os.waitpid(victim, 0x40000000)
                libc.ptrace(PTRACE_DETACH, victim, None, None)
            os._exit(error)
        except BaseException:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def named(error):
    return "" if error == 0 else errno.errorcode.get(error, f"error {error}")

def memory():
    # A fresh program of nobody's: what only changed its user could not be read in any case.
    victim = subprocess.Popen(["sleep", "60"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    try:
        with open(f"/proc/{victim.pid}/comm") as comm:
            while comm.read().strip() != "sleep":
                comm.seek(0)
        return {"same user": named(attach(victim.pid, NOBODY)), "root": named(attach(victim.pid, 0))}
    finally:
        victim.kill(); victim.wait()

def cores(folder):
    os.chown(folder, NOBODY, NOBODY)
    # Whoever may raise the limit would; then it dies as if it had followed a wrong pointer.
    die = "ulimit -c unlimited 2>/dev/null; kill -SEGV $$"
    crashed = subprocess.Popen(["sh", "-c", die], user=NOBODY, group=NOBODY, extra_groups=[], cwd=folder)
    status = os.waitpid(crashed.pid, 0)[1]
    crashed.returncode = 0
    with open("/proc/sys/kernel/core_pattern") as pattern:
        return {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "dumped": os.WCOREDUMP(status),
            "left": sorted(os.listdir(folder)),
            "pattern": pattern.read().strip(),
        }

def temporary(folder):
    program = os.path.join(folder, "program")
    with open(program, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(program, 0o755)
    try:
        return f"it ran, exit status {subprocess.run([program]).returncode}"
    except OSError as error:
        return named(error.errno)
    finally:
        os.unlink(program)

def main(request):
    started, refused = starts(request["units"])
    before = os.stat("/tmp")
    folder = tempfile.mkdtemp(prefix="appliance-qualify-", dir="/tmp")
    try:
        run = temporary(folder)
        crash = cores(folder)
    finally:
        shutil.rmtree(folder)
        os.utime("/tmp", ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nobody had been here
    container = quiet(["systemd-detect-virt", "--container"]).stdout.strip()
    return {"started": started, "refused": refused, "memory": memory(), "cores": crash, "temporary": run,
            "container": "" if container == "none" else container}
"""

#: What the kernel answers when it does not let a program be run, or another process be read.
_DENIED: Final = {"EACCES", "EPERM"}


@dataclass(frozen=True)
class Tries:
    """What came of every attempt.  ``container``: whose kernel it is, if not the node's own; else ""."""

    started: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    memory: dict[str, str] | None = None
    cores: dict[str, Any] | None = None
    temporary: str = ""
    container: str = ""


def try_node(connection: Runs, units: Sequence[str]) -> Tries:
    """Try everything on the node; ``units``: those that must not start."""
    from appliance.node.probe import run_script  # a node that audits itself tries nothing, and has no probe

    values = run_script(connection, SCRIPT, {"units": list(units)}, timeout=120)
    return Tries(
        started=tuple(values["started"]),
        refused=tuple(values["refused"]),
        memory=values["memory"],
        cores=values["cores"],
        temporary=values["temporary"],
        container=values["container"],
    )


def judge_memory(tries: Tries) -> Finding:
    """A process cannot attach to another one of the same user."""
    memory = tries.memory or {}
    wanted = "ptrace of another process of the same user is refused"
    kept = memory.get("same user") in _DENIED
    spelled = ", ".join(f"{who}: {error or 'attached'}" for who, error in memory.items())
    return _or_not_here(Finding(kept, spelled, wanted), tries)


def judge_cores(tries: Tries) -> Finding:
    """A process that crashes leaves nothing, wherever the kernel would send it."""
    cores = tries.cores or {}
    wanted = "a process crashes and leaves no file; the kernel hands its memory to nobody"
    handed = cores.get("pattern", "").startswith("|") and cores.get("pattern") != "|/bin/false"
    left = list(cores.get("left", []))
    found = (
        f"signal {cores.get('signal')}; left behind: {', '.join(left) or 'nothing'}; "
        f"core_pattern {cores.get('pattern')}"
    )
    if not cores.get("signal") or left:
        return Finding(kept=False, found=found, wanted=wanted)
    return _or_not_here(Finding(not handed, found, wanted), tries)


def judge_temporary(tries: Tries) -> Finding:
    """A program in /tmp is not run."""
    wanted = "a program in /tmp is refused: EACCES"
    return _or_not_here(Finding(tries.temporary in _DENIED, tries.temporary, wanted), tries)


def _or_not_here(finding: Finding, tries: Tries) -> Finding:
    """In a container kernel and /tmp are its host's: what they do not keep cannot be judged here."""
    if finding.kept or not tries.container:
        return finding
    reason = (
        f"kernel and /tmp are not the node's own ({tries.container}), and its host does not see to this"
    )
    return not_run(f"{reason}: {finding.found}", wanted=finding.wanted)
