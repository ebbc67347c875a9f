"""The slots of a virtual machine for simulated drives, as its guest sees them.  Pure.

A drive comes over NVMe/TCP, since no emulator has one on PCIe.  So that nothing of the guest takes the way
to it for a network of its own, the cable ends in a network namespace of the guest's that holds nothing
else: no firewall, no netplan and no audit of the node finds it.  A service of the guest lays it and
connects before anything asks for drives, and again when a drive that lost its power is back, under the next
free name, as a drive of metal that was pulled and put in again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.lab.plan import Node

#: At the ends of the cable, where there is nobody else: where drives listen, and the guest.
DRIVES_ADDRESS, GUEST_ADDRESS, PORT = "169.254.77.1", "169.254.77.2", 4420
#: The operator's end, in a namespace of its own.
LINK = "slots"

#: What the guest starts when the files are in their place.
SERVICE = "practice-slots.service"
_PROGRAM = "usr/local/sbin/practice-slots"

# Before crypttab and fstab; what they name is waited for anyhow, but a service that asks once is not.
_UNIT = f"""\
[Unit]
Description=Reach the simulated drives of a practice node
DefaultDependencies=no
Wants=cryptsetup-pre.target local-fs-pre.target
After=systemd-remount-fs.service systemd-udev-trigger.service
Before=cryptsetup-pre.target local-fs-pre.target sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
ExecStartPre=/bin/sh -eu /{_PROGRAM} lay
ExecStartPre=nsenter --net=/run/netns/slots /bin/sh -eu /{_PROGRAM} connect
ExecStart=nsenter --net=/run/netns/slots /bin/sh -eu /{_PROGRAM} keep
TimeoutStartSec=600
Restart=on-failure

[Install]
WantedBy=sysinit.target
"""


def slots_mac(node: Node) -> str:
    """The MAC address of the card that a machine's slots are behind."""
    return f"02:00:0c:00:{node.segment:02x}:{node.host:02x}"


def slots_files(node: Node, names: Iterable[str]) -> dict[str, str]:
    """What a machine with such drives has on its disk: path relative to the root, to content.

    Args:
        node: the machine.
        names: the NVMe Qualified Names of its drives, in the order in which they are connected.
    """
    wanted = " ".join(names)
    return {
        f"etc/systemd/system/{SERVICE}": _UNIT,
        # A drive that is lost is gone at once: the kernel would connect again from outside the namespace.
        _PROGRAM: f"""\
# Lay the cable to the simulated drives of this practice node, and keep them connected.
names="{wanted}"
options="transport=tcp,traddr={DRIVES_ADDRESS},trsvcid={PORT},ctrl_loss_tmo=0,keep_alive_tmo=60"

# The card, when there is one.  What is here asks no other program, so that those who look for it go first.
card() {{
  while :; do
    for card in /sys/class/net/*; do
      {{ read -r found <"$card/address" || continue; }} 2>/dev/null
      if [ "$found" = {slots_mac(node)} ]; then
        echo "${{card##*/}}"
        return
      fi
    done
    sleep 0.3
  done
}}

lay() {{
  modprobe nvme-tcp
  [ -e /run/netns/slots ] || ip netns add slots
  # Whoever renames the card is faster, and it is tried again.
  until ip -n slots link show slots >/dev/null 2>&1 || ip link set "$(card)" netns slots name slots; do
    sleep 0.1
  done
  ip -n slots address replace {GUEST_ADDRESS}/30 dev slots
  ip -n slots link set lo up
  ip -n slots link set slots up
}}

is_connected() {{
  for subsystem in /sys/class/nvme/*/subsysnqn; do
    # One may go while it is looked at.
    {{ read -r found <"$subsystem" || continue; }} 2>/dev/null
    [ "$found" != "$1" ] || return 0
  done
  return 1
}}

# Whether all are connected; what is not yet, is tried.
connect() {{
  all=true
  for name in $names; do
    is_connected "$name" || echo "$options,nqn=$name" 2>/dev/null >/dev/nvme-fabrics || all=false
  done
  $all
}}

case $1 in
  lay) lay ;;
  connect) until connect; do sleep 0.2; done ;;
  keep) while :; do connect || :; sleep 0.5; done ;;
esac
""",
    }
