"""Which frames are allowed: each kind as scapy writes it, and each with one thing changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from appliance.definition.host import Host, Time
from appliance.frames.cable import cable_of
from appliance.frames.judge import Beyond, allowed_as
from tests.unit.frames.frames_allowed import ALLOWED
from tests.unit.frames.frames_beyond import BEYOND
from tests.unit.frames.site import EXPORT, INVENTORY, NODE, STORE, cable


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    card, wanted, frame = ALLOWED[case]
    assert allowed_as(cable(card), raw(frame)) == wanted


@pytest.mark.parametrize("case", BEYOND)
def test_beyond(case: str) -> None:
    card, reason, frame = BEYOND[case]
    with pytest.raises(Beyond) as verdict:
        allowed_as(cable(card), raw(frame))
    assert reason in str(verdict.value)


def ptp(source: str, group: str) -> bytes:
    return raw(Ether(src=source, dst=group, type=0x88F7) / Raw(bytes(44)))


def test_time_by_ptp_is_on_the_interface_of_the_inventory_and_to_its_groups() -> None:
    site = replace(INVENTORY, host=Host(time=Time("ptp", interface="data")))
    data, export = (cable_of(site, NODE, card) for card in ("data1", "export"))
    for group in ("01:1b:19:00:00:00", "01:80:c2:00:00:0e"):
        assert allowed_as(data, ptp(STORE, group)) == "time (PTP)"
        with pytest.raises(Beyond, match="0x88f7"):
            allowed_as(export, ptp(EXPORT, group))
    with pytest.raises(Beyond, match="0x88f7"):
        allowed_as(data, ptp(STORE, "01:1b:19:00:00:01"))


def test_without_a_name_ptp_is_on_the_only_interface() -> None:
    site = replace(INVENTORY, host=Host(time=Time("ptp")))
    assert cable_of(site, NODE, "mgmt").links[None].ptp


@pytest.mark.parametrize("case", ALLOWED)
def test_a_frame_cut_anywhere_is_beyond(case: str) -> None:
    """Without its end, nothing is what it was."""
    card, _, frame = ALLOWED[case]
    data = raw(frame)
    whole = len(data.rstrip(b"\0")) if case == "ARP filled up" else len(data)
    for end in range(min(whole, 42) if case == "ARP filled up" else whole):
        with pytest.raises(Beyond):
            allowed_as(cable(card), data[:end])


@given(st.sampled_from(sorted(ALLOWED)), st.data())
def test_changed_frames_are_judged_and_never_break_the_judge(case: str, drawn: st.DataObject) -> None:
    card, wanted, frame = ALLOWED[case]
    data = bytearray(raw(frame))
    at = drawn.draw(st.integers(0, len(data) - 1))
    data[at] = drawn.draw(st.integers(0, 255))
    try:
        found = allowed_as(cable(card), bytes(data))
    except Beyond:
        return
    assert found == wanted, "one byte does not make one allowed kind another"


@given(st.sampled_from(["mgmt", "data0", "export"]), st.binary(max_size=200))
def test_noise_is_beyond(card: str, data: bytes) -> None:
    with pytest.raises(Beyond):
        allowed_as(cable(card), data)
