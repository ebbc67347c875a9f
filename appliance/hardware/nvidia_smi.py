"""What ``nvidia-smi -q -x`` says of each GPU.

The report's grammar comes with the driver (``nvsmi_device_v11.dtd`` to ``v13.dtd``); elements are read by
name, and one that a driver does not have is None, never a good value.  ``defusedxml`` refuses entities, so
that a report of a few bytes cannot grow to gigabytes or read a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.hardware.pci import Link, plain_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

#: Eight GPUs with all clocks are about 220 kB.
MAX_BYTES: Final = 8 << 20
_ABSENT: Final = frozenset({"", "N/A", "[N/A]", "Not Supported", "Unknown Error"})


class SmiUnreadableError(Exception):
    """What was given is no report of nvidia-smi; the text says why."""


@dataclass(frozen=True)
class SmiGpu:
    """One GPU.  None: the driver does not say.

    ``memory_mib`` with ECC as it is on; ``uncorrected``: memory errors since the last reset that ECC could
    not mend; ``fabric`` is how far the GPU has joined the NVSwitches' fabric, empty where it has none, and
    ``fabric_status`` how that ended.
    """

    address: str
    product: str
    memory_mib: int | None
    ecc: bool | None
    ecc_pending: bool | None
    uncorrected: int | None
    remap_pending: bool | None
    remap_failed: bool | None
    mig: bool | None
    mig_pending: bool | None
    persistence: bool | None
    link: Link
    best: Link
    fabric: str
    fabric_status: str
    virtualization: str


@dataclass(frozen=True)
class SmiReport:
    """``driver`` is the version of the loaded module, ``cuda`` the newest CUDA it can run."""

    driver: str
    cuda: str
    attached: int | None
    gpus: tuple[SmiGpu, ...]


def parse_report(text: str) -> SmiReport:
    """Read a report.

    Raises:
        SmiUnreadableError: it is not XML, has entities, is too long, or another document.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(text) > MAX_BYTES:
        raise SmiUnreadableError(f"{len(text)} characters, which no report has")
    try:
        # The parser wants bytes where a declaration names the encoding.
        root: Element = fromstring(text.strip().encode())
    except ParseError as fault:
        raise SmiUnreadableError(f"not XML: {fault}") from fault
    except DefusedXmlException as fault:
        raise SmiUnreadableError("XML with entities, which nvidia-smi does not write") from fault
    if root.tag != "nvidia_smi_log":
        raise SmiUnreadableError(f"a document {root.tag}, not nvidia_smi_log")
    return SmiReport(
        driver=_text(root, "driver_version"),
        cuda=_text(root, "cuda_version"),
        attached=_number(root, "attached_gpus"),
        gpus=tuple(_gpu(each) for each in root.findall("gpu")),
    )


def _gpu(gpu: Element) -> SmiGpu:
    link = "pci/pci_gpu_link_info"
    return SmiGpu(
        address=plain_address(gpu.get("id", "")),
        product=_text(gpu, "product_name"),
        memory_mib=_number(gpu, "fb_memory_usage/total"),
        ecc=_switch(gpu, "ecc_mode/current_ecc"),
        ecc_pending=_switch(gpu, "ecc_mode/pending_ecc"),
        uncorrected=_uncorrected(gpu),
        remap_pending=_switch(gpu, "remapped_rows/remapped_row_pending"),
        remap_failed=_switch(gpu, "remapped_rows/remapped_row_failure"),
        mig=_switch(gpu, "mig_mode/current_mig"),
        mig_pending=_switch(gpu, "mig_mode/pending_mig"),
        persistence=_switch(gpu, "persistence_mode"),
        link=Link(
            _number(gpu, f"{link}/pcie_gen/current_link_gen"),
            _number(gpu, f"{link}/link_widths/current_link_width"),
        ),
        best=Link(
            _number(gpu, f"{link}/pcie_gen/max_device_link_gen")
            or _number(gpu, f"{link}/pcie_gen/max_link_gen"),
            _number(gpu, f"{link}/link_widths/max_link_width"),
        ),
        fabric=_text(gpu, "fabric/state"),
        fabric_status=_text(gpu, "fabric/status"),
        virtualization=_text(gpu, "gpu_virtualization_mode/virtualization_mode"),
    )


def _uncorrected(gpu: Element) -> int | None:
    """Sum of what ECC could not mend since the last reset; older drivers count all in ``total``.

    A GPU that is cut counts by slice too, and some drivers then say nothing of the whole.  Whether the
    whole has the slices' errors in it no source says: the larger of both sums.
    """
    whole = list(_counts(gpu.find("ecc_errors/volatile")))
    slices = [
        count
        for each in gpu.findall("mig_devices/mig_device")
        for count in _counts(each.find("ecc_error_count/volatile_count"))
    ]
    return max((sum(found) for found in (whole, slices) if found), default=None)


def _counts(volatile: Element | None) -> Iterator[int]:
    """DRAM's and SRAM's counters; up to driver 450 those of a ``double_bit`` group, summed there."""
    if volatile is None:
        return
    for each in volatile:
        if "uncorrectable" in each.tag and (count := _number(volatile, each.tag)) is not None:
            yield count
    if (total := _number(volatile, "double_bit/total")) is not None:
        yield total


def _text(element: Element, path: str) -> str:
    found = (element.findtext(path) or "").strip()
    return "" if found in _ABSENT else found


def _number(element: Element, path: str) -> int | None:
    """The number a value begins with: ``81559 MiB``, ``16x``."""
    found = re.match(r"[0-9]+", _text(element, path))
    return int(found.group()) if found else None


def _switch(element: Element, path: str) -> bool | None:
    return {"Enabled": True, "Disabled": False, "Yes": True, "No": False}.get(_text(element, path))
