"""Says whether the node can reach its management controller: reported, since nothing here can forbid it.

A BMC has a network of its own that no filter of the host sees; root on the host may configure it over IPMI.
"""

from __future__ import annotations

from typing import Final

#: IPMI devices, and network cards on USB, which is how a BMC offers Redfish to its host (DSP0270).
WAYS: Final = """
for each in /dev/ipmi[0-9]* /dev/ipmi/[0-9]* /dev/ipmidev/[0-9]*; do [ -e "$each" ] && echo "$each"; done
for each in /sys/class/net/*; do
  driver=$(readlink -f "$each/device/driver")
  case ${driver##*/} in
    cdc_ether|cdc_ncm|cdc_subset|cdc_eem|rndis_host) echo "network card ${each##*/}";;
  esac
done
true
"""


def note(listing: str | None) -> str:
    """One line for the report; None: the node could not be asked."""
    if listing is None:
        return "whether the node can reach its BMC could not be asked"
    ways = ", ".join(listing.split("\n")).strip(", ")
    if not ways:
        return "no way from the node to a BMC was seen; a BMC may have a network of its own all the same"
    return f"root on the node can reach its BMC ({ways}), which has a network of its own: not judged here"
