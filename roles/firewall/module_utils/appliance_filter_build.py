"""The declared packet filter as the real ufw builds it, in a network namespace of its own.

ufw gets the declared files and rules in a private folder and loads them the way it does at boot.  What it
cannot load is refused.  What that namespace then holds is exactly what the node must hold.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.appliance_ruleset import normalise, normalise_nft, open_policies, unlimited_logs

#: Family to the programs that save and load its filter.
FAMILIES = {"v4": "iptables", "v6": "ip6tables"}

#: Written by ufw from the declared rules.
USER_RULES = {"v4": "/etc/ufw/user.rules", "v6": "/etc/ufw/user6.rules"}

STOCK_RULES = "/usr/share/ufw/iptables"

#: What ufw.service runs at boot.
INIT = "/lib/ufw/ufw-init"

#: Every table there is, without counters.
NFT = ("nft", "--stateless", "list", "ruleset")

#: A shell that stops at the first failure, in a network namespace of its own.
_ALONE = ("unshare", "--net", "--", "sh", "-e")

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Refused(Exception):
    """The filter cannot be built, loaded or kept; the text says why."""


def run(*command: str, stdin: str = "") -> str:
    """Standard output of a command; Refused with what it wrote when it fails."""
    done = subprocess.run(
        command, input=stdin, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        wrote = (done.stderr or done.stdout).strip()
        raise Refused(f"{' '.join(command)} ended with {done.returncode}: {wrote}")
    return done.stdout


def read(path: str) -> str:
    """Text of a file, empty when there is none."""
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def write(path: str, text: str, mode: int = 0o640) -> None:
    """Replace a file whole; ufw insists that nobody else can write it."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(draft).chmod(mode)
    Path(draft).replace(path)


def families() -> list[str]:
    """The families this kernel speaks; one booted with ipv6.disable=1 has no IPv6 to filter."""
    return [family for family in FAMILIES if family == "v4" or Path("/proc/sys/net/ipv6").exists()]


def has_nft() -> bool:
    """Whether the program that shows every table of the kernel is installed."""
    return shutil.which(NFT[0], path=ENVIRONMENT["PATH"]) is not None


def build(files: dict[str, str], rules: list[list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Let ufw make the filter in a namespace of its own.

    ufw tells of some failures to load with exit status 0, so what the kernel then holds is judged too.

    Args:
        files: ufw's files, text by path.
        rules: arguments of ufw, one list a rule.

    Returns:
        ``(files, live)``: text by path, user rules included, and normalised rules by family, and as ``nft``
        the whole ruleset where that program is.

    Raises:
        Refused: ufw does not accept a file or a rule, or the result leaves a chain open or logs at will.
    """
    with tempfile.TemporaryDirectory(prefix="appliance-ufw-", dir="/run") as folder:
        for path, text in files.items():
            write(folder + path, text)
        for path in USER_RULES.values():
            shutil.copy(f"{STOCK_RULES}/{Path(path).name}", folder + path)
        for name in ("lib/ufw", "etc/ufw/applications.d"):  # for its lock and profiles; ufw insists
            Path(folder, name).mkdir(parents=True)
        ufw = ["ufw", "--rootdir=/", f"--datadir={folder}"]
        commands = [[*ufw, "--force", "enable"], *[[*ufw, *rule] for rule in rules]]
        # Loaded anew the way the node boots: ufw's own commands leave slightly other rules behind.
        boot = [[INIT, "--rootdir", "/", "--datadir", folder, "start"]]
        saves = [f"{FAMILIES[family]}-save >{folder}/{family}" for family in families()]
        saves += [f"{shlex.join(NFT)} >{folder}/nft"] if has_nft() else []
        try:
            run(*_ALONE, stdin="\n".join(map(shlex.join, commands)))
            run(*_ALONE, stdin="\n".join([*map(shlex.join, boot), *saves]))
        except Refused as refusal:
            raise Refused(f"ufw cannot load the declared filter: {refusal}") from refusal
        live = {family: normalise(read(f"{folder}/{family}")) for family in families()}
        nft = {"nft": normalise_nft(read(f"{folder}/nft"))} if has_nft() else {}
        made = {**files, **{path: read(folder + path) for path in USER_RULES.values()}}
    for family, built in live.items():
        if open_policies(built):
            chains = ", ".join(open_policies(built))
            raise Refused(f"ufw built a filter ({family}) that leaves {chains} open")
        if unlimited_logs(built):
            raise Refused(
                f"ufw built a filter ({family}) that logs without limit: {unlimited_logs(built)[0]}"
            )
    return made, {**live, **nft}
