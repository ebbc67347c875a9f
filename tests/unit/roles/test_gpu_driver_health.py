"""The role gpu_driver: errors of whole GPUs and of slices, and CUDA called for each part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.test_gpu_driver import HEALTHY, MODES, ROWS, UNITS, WHOLE, have, module, ready, rules

__all__ = ["module", "ready", "rules"]

CUT = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)
  MIG 3g.40gb     Device  0: (UUID: MIG-a)
  MIG 3g.40gb     Device  1: (UUID: MIG-b)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1)
"""


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("53:00.0, Enabled, Enabled", "53:00.0, Disabled, Enabled", "53:00.0: ECC Disabled"),
        ("53:00.0, Enabled, Enabled", "53:00.0, Enabled, Disabled", "after the next start Disabled"),
        ("53:00.0, Enabled, Enabled", "53:00.0, [N/A], [N/A]", r"ECC \[N/A\]"),
        ("53:00.0, Enabled, Enabled, 0", "53:00.0, Enabled, Enabled, 2", "2 memory errors"),
        ("53:00.0, Enabled, Enabled, 0", "53:00.0, Enabled, Enabled, [N/A]", "memory errors"),
        (
            "53:00.0, Enabled, Enabled, 0, Disabled",
            "53:00.0, Enabled, Enabled, 3, Enabled",
            "3 memory errors",
        ),
        ("53:00.0, No, No", "53:00.0, Yes, No", "waits to be remapped"),
        ("53:00.0, No, No", "53:00.0, No, Yes", "have the GPU replaced"),
        ("53:00.0, No, No", "53:00.0, [N/A], No", "waits to be remapped"),
    ],
)
def test_an_ailing_gpu_is_named(rules: Any, was: str, becomes: str, said: str) -> None:
    assert rules.ailments(HEALTHY, ROWS) == []
    (found,) = rules.ailments(HEALTHY.replace(was, becomes), ROWS.replace(was, becomes))
    assert re.search(said, found)


def test_a_gpu_that_is_cut_tells_nothing_of_the_whole_and_is_not_called_ailing(rules: Any) -> None:
    """As nvidia-smi says it of an A100 with slices (recorded/smi-a100-mig.xml)."""
    cut = HEALTHY.replace(
        "53:00.0, Enabled, Enabled, 0, Disabled", "53:00.0, Enabled, Enabled, [N/A], Enabled"
    )
    assert rules.ailments(cut, ROWS.replace("53:00.0, No, No", "53:00.0, [N/A], [N/A]")) == []
    assert rules.ailments(cut, ROWS.replace("53:00.0, No, No", "53:00.0, [N/A], Yes"))
    assert rules.ailments(cut, ROWS.replace("64:00.0, No, No", "64:00.0, [N/A], [N/A]")), "that is whole"


def report_of(*counts: str, bus: str = "00000000:53:00.0") -> str:
    slices = "".join(
        f"<mig_device><ecc_error_count><volatile_count><sram_uncorrectable>{count}</sram_uncorrectable>"
        "</volatile_count></ecc_error_count></mig_device>"
        for count in counts
    )
    return f'<nvidia_smi_log><gpu id="{bus}"><mig_devices>{slices}</mig_devices></gpu></nvidia_smi_log>'


@pytest.mark.parametrize(
    ("whole", "counts", "said"),
    [
        ("[N/A]", ["0", "0"], ""),
        ("[N/A]", ["0", "2"], "2 memory errors"),
        ("[N/A]", ["1", "2"], "3 memory errors"),
        ("0", ["2"], "2 memory errors"),
        ("5", ["2"], "5 memory errors"),
        ("[N/A]", ["0", "N/A"], "unknown memory errors"),
        ("[N/A]", [], ""),  # in MIG mode, and not cut yet
        ("[Unknown Error]", ["0"], r"\[Unknown Error\] memory errors"),
    ],
)
def test_errors_of_slices_count_though_the_whole_says_none(
    rules: Any, whole: str, counts: list[str], said: str
) -> None:
    cut = HEALTHY.replace(
        "53:00.0, Enabled, Enabled, 0, Disabled", f"53:00.0, Enabled, Enabled, {whole}, Enabled"
    )
    found = rules.ailments(cut, ROWS, report_of(*counts))
    assert [bool(re.search(f"53:00.0: {said}", line)) for line in found] == ([True] if said else [])
    other = rules.ailments(cut, ROWS, report_of(*counts, bus="00000000:64:00.0"))
    assert all(whole in line for line in other), "another GPU's slices are not this one's"


def test_errors_of_slices_are_seen_as_preflight_sees_them(rules: Any) -> None:
    """On what a real A100 with slices said, and with an error in one of them."""
    from appliance.hardware.nvidia_smi import parse_report

    text = (Path(__file__).parents[1] / "hardware/recorded/smi-a100-mig.xml").read_text()
    ailing = text.replace("<sram_uncorrectable>0<", "<sram_uncorrectable>4<", 1)
    for report in (text, ailing):
        (gpu,) = [each for each in parse_report(report).gpus if each.mig]
        memory = f"00000000:{gpu.address[5:].upper()}, Enabled, Enabled, [N/A], Enabled\n"
        errors = [line for line in rules.ailments(memory, "", report) if "memory errors" in line]
        assert bool(errors) is bool(gpu.uncorrected)
    assert gpu.uncorrected == 4
    with pytest.raises(rules.InTheWay, match="answered with no report"):
        rules.ailments(memory, "", "No devices were found")


def test_the_report_is_asked_where_a_gpu_is_cut(
    module: Any, rules: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = HEALTHY.replace("0, Disabled", "[N/A], Enabled", 1)
    answers = {module.MEMORY: cut, module.ROWS: ROWS, module.REPORT: report_of("0", "3")}
    monkeypatch.setattr(module, "run", lambda *command: answers[command])
    have(module, monkeypatch, ready)
    with pytest.raises(rules.InTheWay, match=r"53:00\.0: 3 memory errors"):
        module.bring_about(UNITS, check=False)


def test_cuda_is_called_for_each_slice_since_it_shows_no_more_than_one(rules: Any) -> None:
    assert rules.cuda_devices(WHOLE, MODES) is None
    assert rules.cuda_devices(CUT, MODES.replace("GPU-0, Disabled", "GPU-0, Enabled")) == [
        *("MIG-a", "MIG-b"),
        "GPU-1",
    ]
    every = MODES.replace("Disabled", "Enabled")
    assert rules.cuda_devices(WHOLE, every) == [], "in MIG mode and not cut yet: nothing to call for"


def test_a_slice_that_cuda_does_not_find_fails_the_role(
    module: Any, rules: Any, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = MODES.replace("GPU-0, Disabled", "GPU-0, Enabled")
    answers = {
        module.MEMORY: HEALTHY,
        module.ROWS: ROWS,
        module.MODES: modes,
        ("nvidia-smi", "-L"): CUT,
        ("/usr/bin/env", "CUDA_VISIBLE_DEVICES=MIG-b", "/usr/bin/python3", "-I", "-c", module.COUNT): "0\n",
    }
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        return answers.get(command, "1\n")

    monkeypatch.setattr(module, "run", run)
    have(module, monkeypatch, ready)
    with pytest.raises(rules.InTheWay, match="CUDA finds 0 devices in MIG-b"):
        module.bring_about(UNITS, check=False)
    answers.popitem()
    assert module.bring_about(UNITS, check=False)["changed"] is False
    assert [each[1] for each in asked[-3:]] == [
        f"CUDA_VISIBLE_DEVICES={part}" for part in ("MIG-a", "MIG-b", "GPU-1")
    ]


def test_an_answer_with_other_columns_judges_nothing(rules: Any) -> None:
    with pytest.raises(rules.InTheWay, match="otherwise than asked"):
        rules.ailments("No devices were found\n", "")
