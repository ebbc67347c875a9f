"""Forbidden connections, tried from the live node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import escapes, flows
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.probe import OutboundProbe
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]


@promise("control.listeners", "The station's listeners work, so that their silence means something")
def test_listeners_work(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_witness(probe, local=subject.local))


@promise("control.before", "The forbidden connections worked before the node was isolated")
def test_path_existed_before(subject: Subject, before: OutboundProbe | None, judge: Judge) -> None:
    judge(escapes.judge_before(before, local=subject.local))


@promise("outbound.{protocol}-{family}", "Root cannot reach the station: {protocol}, IP{family}")
@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_listener_out_of_reach(
    subject: Subject, probe: OutboundProbe, judge: Judge, protocol: str, family: str
) -> None:
    judge(escapes.judge_listener(probe, protocol, family, local=subject.local))


@promise("outbound.services", "Root cannot reach the ports of name lookup, web and time at the station")
def test_services_out_of_reach(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_services(probe))


@promise("outbound.elsewhere", "Root cannot send anything beyond the wire")
def test_elsewhere_out_of_reach(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_elsewhere(probe))


@promise("outbound.wire", "Root cannot call everybody on the wire")
def test_wire_is_silent(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_wire(probe))


@promise("outbound.flows", "What is declared to go out does: each flow, tried as root")
def test_flows_work(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(flows.judge_flows(probe, subject.node))


@promise("outbound.beside-flows", "Root cannot send anything else to the peers of flows")
def test_nothing_beside_flows(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(flows.judge_beside(probe, subject.node))


@promise("outbound.names", "No host name can be resolved")
def test_no_name_is_resolved(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_names(probe))


@promise("outbound.service-user", "The inference service's user cannot open a connection outwards")
def test_service_user_is_contained(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_party(probe, "user"))


@promise("outbound.in-service", "A process inside the inference service cannot open a connection outwards")
def test_service_is_contained(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_party(probe, "unit"))


@promise("outbound.unit-denies", "The service's unit denies by itself, independent of the firewall")
def test_unit_denies_by_itself(probe: OutboundProbe, judge: Judge) -> None:
    judge(escapes.judge_own_denial(probe))
