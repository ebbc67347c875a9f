"""What a virtual machine's disk and the QEMU it runs in are made of.  Pure.

The disk is a plain Debian with its stock kernel, except for one small service.  It waits until it finds in
the firmware's configuration who this machine is, takes that on and removes itself, so that nothing of the
lab is left on the disk.  A machine whose state was kept while the service waited goes on in as many copies
as there are machines, each of which finds something else there.
"""

from __future__ import annotations

import hashlib

from appliance.lab import slots
from appliance.lab.qemu import IDENTITY
from appliance.lab.recipe import PACKAGES, Recipe

#: What the service prints to the console when all but itself is ready.
WAITING = "appliance-lab: waiting for an identity"

# The generic kernel: the one for clouds starts quicker and lacks drivers of real machines.
_KERNEL = "linux-image-amd64"
_MACHINE_PACKAGES = ("cryptsetup-bin", "e2fsprogs", "kmod", "nvme-cli", "sedutil", _KERNEL)
# What opens volumes at boot, and what systemd loads to ask a TPM.
_UNLOCKING_PACKAGES = (
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "systemd-cryptsetup",
)

# Only what this machine needs to find its disk: the usual choice of everything takes seconds to unpack.
_INITRAMFS = {
    "etc/initramfs-tools/conf.d/practice-node": "MODULES=list\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
}

_SERVICE = "practice-identity.service"
_PROGRAM = "usr/local/sbin/practice-identity"
_WANTED = "etc/systemd/system/multi-user.target.wants"

# Every machine gets its own in its place.  None at all would make systemd treat the boot as its first.
_TEMPLATE_ID = hashlib.sha256(b"appliance-lab template").hexdigest()[:32]

_UNIT = f"""\
[Unit]
Description=Take on the identity of a practice node
After=systemd-networkd.service systemd-logind.service systemd-user-sessions.service getty.target
Before=ssh.service

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/{_PROGRAM}
"""

# What is inside the firmware's configuration is looked up again only when the driver is loaded again.
_SCRIPT = f"""\
#!/bin/sh
# Find who this machine is, take that on, and leave nothing of this program behind.
set -eu
identity=/sys/firmware/qemu_fw_cfg/by_name/{IDENTITY}/raw
modprobe qemu_fw_cfg
if [ ! -e "$identity" ]; then
  until [ "$(systemctl list-jobs --no-legend | grep -c running)" -le 1 ]; do sleep 0.1; done
  echo "{WAITING}" >/dev/console
  until [ -e "$identity" ]; do
    sleep 0.1
    modprobe -r qemu_fw_cfg
    modprobe qemu_fw_cfg
  done
fi
# The time that has passed since this machine was the one it is a copy of.
date --utc --set="@$(cat /sys/class/rtc/rtc0/since_epoch)"
before=$(cat /etc/machine-id)
cat "$identity" | tar --extract --directory=/
hostname --file /etc/hostname
rm -f /{_PROGRAM} /etc/systemd/system/{_SERVICE} /{_WANTED}/{_SERVICE} /var/lib/systemd/random-seed
if [ -d "/var/log/journal/$before" ]; then
  mv "/var/log/journal/$before" "/var/log/journal/$(cat /etc/machine-id)"
fi
systemctl restart systemd-journald.service
networkctl reload
if [ -e /etc/systemd/system/{slots.SERVICE} ]; then
  systemctl daemon-reload
  systemctl enable --now {slots.SERVICE}
fi
"""


def machine_recipe() -> Recipe:
    """The root file system that becomes a virtual machine's disk."""
    return Recipe(
        packages=(*PACKAGES, *_MACHINE_PACKAGES, *_UNLOCKING_PACKAGES),
        enabled=("systemd-networkd.service",),
        configured=_INITRAMFS,
        written={
            "etc/machine-id": f"{_TEMPLATE_ID}\n",
            f"etc/systemd/system/{_SERVICE}": _UNIT,
            _PROGRAM: _SCRIPT,
        },
        linked={f"{_WANTED}/{_SERVICE}": f"../{_SERVICE}"},
    )


def qemu_recipe() -> Recipe:
    """QEMU and swtpm with all they need, unpacked and not installed: the station's may be too old."""
    packages = ("qemu-system-x86", "qemu-utils", "swtpm")
    return Recipe(variant="extract", packages=packages, enabled=(), removed=(), written={})
