"""What a lab needs of the machine it runs on, checked before anything is made."""

from __future__ import annotations

import os
import shutil

from appliance.errors import PreflightFailed, ToolMissing

# program -> the Debian package that has it
UP_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "mount": "mount",
    "ssh": "openssh-client",
}
MACHINE_TOOLS = {"ip": "iproute2", "ssh": "openssh-client"}
SHELL_TOOLS = {"ssh": "openssh-client"}
DOWN_TOOLS = {"ip": "iproute2"}
BUILD_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "chroot": "coreutils",
}
IMAGE_TOOLS = {"mke2fs": "e2fsprogs", "setpriv": "util-linux", "unshare": "util-linux"}


def require_root() -> None:
    """Raises PreflightFailed unless this process is root."""
    user = os.geteuid()
    if user != 0:
        raise PreflightFailed(
            "practice nodes need root",
            found=f"user id {user}",
            wanted="0",
            hint="run it with sudo",
        )


def require_tools(tools: dict[str, str]) -> None:
    """Raises ToolMissing, naming every missing program and the packages to install."""
    missing = [program for program in tools if shutil.which(program) is None]
    if missing:
        packages = sorted({tools[program] for program in missing})
        raise ToolMissing(
            "programs for practice nodes are missing",
            found=f"no {', '.join(missing)}",
            wanted=f"all of {', '.join(tools)}",
            hint=f"apt install {' '.join(packages)}",
        )
