"""What a practice node's root file system is made of, and the digest it is cached under.  Pure.

The node stands for a machine freshly racked with a plain Debian: systemd, OpenSSH, Python, and nothing
of ours.  Everything here enters the digest, so a changed recipe is a new root.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field

SUITE = "trixie"
#: Releases that bundles are for, and nodes can be made of.
SUITES = ("bookworm", SUITE)

PACKAGES = (
    "dbus",
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
)

# Documentation and translations: nobody rehearses on them, and unpacking them takes time.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

# netplan asks udevd to settle, and udevd starts only where /sys is writable.  Here /sys stays read-only,
# as it shows the host's devices; udevd runs well enough on that to answer.
_UDEV_UNITS = ("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket")
_START_ANYWAY = "[Unit]\nConditionPathIsReadWrite=\n"

# Copied from the building machine or made once for all nodes; each node gets its own or none.
_REMOVED = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
)


@dataclass(frozen=True)
class Recipe:
    """A root file system: what goes in, what is taken out, what is written on top.

    Args:
        suite: of the Debian archive.
        architecture: Debian's name of it.
        variant: mmdebstrap's; ``extract`` unpacks packages and their dependencies and runs nothing.
        packages: besides those of the variant.
        left_out: paths that are not unpacked, as patterns of dpkg.
        enabled: units of systemd.
        removed: patterns of files to remove at the end.
        configured: path to text, written before the packages are unpacked, so that they find it.
        written: path to text, written at the end; what begins with ``#!`` can be run.
        linked: path to the target of a symbolic link.
    """

    suite: str = SUITE
    architecture: str = "amd64"
    variant: str = "minbase"
    packages: tuple[str, ...] = PACKAGES
    left_out: tuple[str, ...] = _LEFT_OUT
    enabled: tuple[str, ...] = ("systemd-networkd.service",)
    removed: tuple[str, ...] = _REMOVED
    configured: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(
        default_factory=lambda: {
            f"etc/systemd/system/{unit}.d/practice-node.conf": _START_ANYWAY for unit in _UDEV_UNITS
        }
    )
    linked: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe, hexadecimal."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def build_command(recipe: Recipe, target: str, sources: str) -> list[str]:
    """The command that unpacks the recipe's packages into the folder ``target``.

    It runs in process and mount namespaces of its own, and not longer than the process that started
    it: however that ends, whatever was started and mounted here is gone with it.

    Args:
        recipe: what to build.
        target: a folder, empty or not yet there.
        sources: path of the apt sources file to take the packages from.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
        *("mmdebstrap", "--mode=root", f"--variant={recipe.variant}", "--format=directory"),
        f"--architectures={recipe.architecture}",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.left_out),
        *(f"--essential-hook={_write(path, text)}" for path, text in recipe.configured.items()),
        *(f'--customize-hook=chroot "$1" systemctl enable {unit}' for unit in recipe.enabled),
        *(recipe.suite, target, sources),
    ]


def _write(path: str, text: str) -> str:
    """A hook that writes a file into the root, which is its first argument."""
    target = f'"$1"/{shlex.quote(path)}'
    return f"mkdir -p $(dirname {target}) && printf %s {shlex.quote(text)} > {target}"
