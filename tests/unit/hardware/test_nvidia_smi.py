"""nvidia-smi's report: recorded on real machines, changed by one thing, and hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.hardware.nvidia_smi import MAX_BYTES, SmiUnreadableError, parse_report
from appliance.hardware.pci import Link
from tests.unit.hardware.nodes import GPUS, text


def test_eight_h100_as_recorded() -> None:
    report = parse_report(text("smi-h100.xml"))
    assert (report.driver, report.cuda, report.attached) == ("580.105.08", "13.0", 8)
    assert [gpu.address for gpu in report.gpus] == [f"0000:{bus}:00.0" for bus in GPUS]
    first = report.gpus[0]
    assert (first.product, first.memory_mib) == ("NVIDIA H100 80GB HBM3", 81559)
    assert (first.ecc, first.ecc_pending, first.uncorrected) == (True, True, 0)
    assert (first.remap_pending, first.remap_failed) == (False, False)
    assert (first.mig, first.mig_pending, first.persistence) == (False, False, True)
    assert (first.link, first.best) == (Link(5, 16), Link(5, 16))
    assert (first.fabric, first.virtualization) == ("Completed", "Pass-Through")


def test_one_a100_and_one_l40s_have_no_fabric() -> None:
    (a100,) = parse_report(text("smi-a100.xml")).gpus
    assert (a100.product, a100.memory_mib, a100.fabric) == ("NVIDIA A100-SXM4-40GB", 40960, "")
    assert (a100.mig, a100.ecc, a100.uncorrected) == (False, True, 0)
    (l40s,) = parse_report(text("smi-l40s.xml")).gpus
    assert l40s.mig is None, "it knows no MIG, which is not the same as having it switched off"
    assert l40s.fabric == ""


def test_a_gpu_that_is_cut_tells_errors_of_the_whole_and_of_slices_and_no_rows() -> None:
    """Driver 535 says ``N/A`` for all of the rows at once; other drivers, for each of their elements."""
    recorded = text("smi-a100-mig.xml")
    (cut,) = parse_report(recorded).gpus
    assert (cut.mig, cut.ecc, cut.uncorrected, cut.memory_mib) == (True, True, 0, 81920)
    assert (cut.remap_pending, cut.remap_failed) == (None, None)
    for where, was in (("a slice", "\t<sram_uncorrectable>0"), ("the whole", "<dram_uncorrectable>0")):
        (ailing,) = parse_report(recorded.replace(was, was[:-1] + "2", 1)).gpus
        assert ailing.uncorrected == 2, where
    both = recorded.replace("<sram_uncorrectable>0", "<sram_uncorrectable>2")
    assert parse_report(both).gpus[0].uncorrected == 8, "the slices' sum, and the whole is not added to it"


@pytest.mark.parametrize(
    ("was", "becomes", "field", "value"),
    [
        ("<current_ecc>Enabled", "<current_ecc>Disabled", "ecc", False),
        ("<pending_ecc>Enabled", "<pending_ecc>Disabled", "ecc_pending", False),
        ("<current_ecc>Enabled", "<current_ecc>N/A", "ecc", None),
        ("<dram_uncorrectable>0", "<dram_uncorrectable>2", "uncorrected", 2),
        ("<sram_uncorrectable_secded>0", "<sram_uncorrectable_secded>1", "uncorrected", 1),
        ("<sram_correctable>0", "<sram_correctable>9", "uncorrected", 0),
        ("<remapped_row_pending>No", "<remapped_row_pending>Yes", "remap_pending", True),
        ("<remapped_row_failure>No", "<remapped_row_failure>Yes", "remap_failed", True),
        ("<current_mig>Disabled", "<current_mig>Enabled", "mig", True),
        ("<persistence_mode>Enabled", "<persistence_mode>Disabled", "persistence", False),
        ("<current_link_width>16x", "<current_link_width>8x", "link", Link(5, 8)),
        ("<state>Completed", "<state>In Progress", "fabric", "In Progress"),
        ("<status>Success", "<status>Unknown Error", "fabric_status", ""),
        ("<status>Success", "<status>Insufficient Resources", "fabric_status", "Insufficient Resources"),
    ],
)
def test_one_element_decides_one_field(was: str, becomes: str, field: str, value: object) -> None:
    whole = text("smi-h100.xml")
    gpu = parse_report(whole.replace(was, becomes, 1)).gpus[0]
    assert getattr(gpu, field) == value
    before = parse_report(whole).gpus[0]
    others = {key: each for key, each in vars(gpu).items() if key != field}
    assert others == {key: each for key, each in vars(before).items() if key != field}


def test_what_a_driver_does_not_say_is_none_and_never_good() -> None:
    bare = '<nvidia_smi_log><gpu id="00000000:53:00.0"/></nvidia_smi_log>'
    report = parse_report(bare)
    assert (report.driver, report.attached) == ("", None)
    (gpu,) = report.gpus
    assert (gpu.ecc, gpu.uncorrected, gpu.remap_failed, gpu.mig) == (None, None, None, None)


_BOMB = """<?xml version="1.0"?>
<!DOCTYPE nvidia_smi_log [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<nvidia_smi_log><driver_version>&b;</driver_version></nvidia_smi_log>"""
_FILE = """<?xml version="1.0"?>
<!DOCTYPE nvidia_smi_log [<!ENTITY f SYSTEM "file:///etc/passwd">]>
<nvidia_smi_log><driver_version>&f;</driver_version></nvidia_smi_log>"""


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "not XML"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "not XML"),
        (text("smi-h100.xml")[:5000], "not XML"),
        ("<html><body>503</body></html>", "document html"),
        (_BOMB, "entities"),
        (_FILE, "entities"),
        ("<nvidia_smi_log>" + " " * MAX_BYTES + "</nvidia_smi_log>", "characters"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(bad: str, why: str) -> None:
    with pytest.raises(SmiUnreadableError, match=why):
        parse_report(bad)


def test_a_gpu_that_is_cut_counts_errors_by_slice() -> None:
    """Recorded: ECC's counters of the whole and its remapped rows are N/A."""
    recorded = (Path(__file__).parents[1] / "roles/recorded/smi-report-a100-mig.xml").read_text("utf-8")
    (gpu,) = parse_report(recorded).gpus
    assert (gpu.mig, gpu.uncorrected, gpu.remap_pending, gpu.remap_failed) == (True, 0, None, None)
    bad = recorded.replace("<sram_uncorrectable>0<", "<sram_uncorrectable>2<", 1)
    assert parse_report(bad).gpus[0].uncorrected == 2
