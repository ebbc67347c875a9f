"""The packet filter, judged; recorded on a qualified practice node, one rule changed at a time."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import rules

if TYPE_CHECKING:
    from appliance.node.qualification.finding import Finding

RECORDED = Path(__file__).with_name("recorded")
NETWORKS = (ip_network("10.77.1.0/29"), ip_network("fd77:1::/124"))
V4 = (RECORDED / "iptables-save.txt").read_text(encoding="utf-8")
V6 = (RECORDED / "ip6tables-save.txt").read_text(encoding="utf-8")


def judged(v4: str = V4, v6: str = V6, port: int = 22) -> dict[str, Finding]:
    both = rules.parse_save(v4), rules.parse_save(v6)
    return {
        "policies": rules.judge_policies(*both),
        "out": rules.judge_out(*both, NETWORKS, port),
        "in": rules.judge_in(*both, NETWORKS, port),
        "through": rules.judge_through(*both),
    }


def broken(**changed: str) -> set[str]:
    return {name for name, finding in judged(**changed).items() if not finding.kept}


def add(text: str, rule: str) -> str:
    return text.replace("COMMIT", f"{rule}\nCOMMIT")


def test_the_recorded_firewall_keeps_every_promise() -> None:
    assert not broken()


@pytest.mark.parametrize(
    ("rule", "judgement"),
    [
        ("-A ufw-user-output -p udp -m udp --dport 443 -j ACCEPT", "out"),
        ("-A ufw-user-output -d 10.77.1.1/32 -j ACCEPT", "out"),
        ("-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "out"),
        ("-A ufw-before-output -p icmp -m icmp --icmp-type 8 -j ACCEPT", "out"),
        ("-A ufw-before-output ! -o lo -j ACCEPT", "out"),
        ("-A OUTPUT -m comment --comment harmless -j ACCEPT", "out"),
        ("-A OUTPUT -j NFQUEUE --queue-num 0", "out"),
        # an SSH reply that may open connections, goes anywhere, or comes from another port
        ("-A OUTPUT -d 10.77.1.0/29 -p tcp -m tcp --sport 22 -j ACCEPT", "out"),
        ("-A OUTPUT -p tcp -m tcp --sport 22 ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", "out"),
        ("-A OUTPUT -d 10.77.1.0/24 -p tcp --sport 22 ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", "out"),
        ("-A OUTPUT -d 10.77.1.0/29 -p tcp --sport 80 ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", "out"),
        ("-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT", "in"),
        ("-A ufw-user-input -s 10.77.1.0/28 -p tcp -m tcp --dport 22 -j ACCEPT", "in"),
        ("-A ufw-user-input -s 10.77.1.0/29 -p tcp -m tcp --dport 8000 -j ACCEPT", "in"),
        ("-A ufw-user-input -s 10.77.1.0/29 -p udp -m udp --dport 22 -j ACCEPT", "in"),
        ("-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT", "in"),
        ("-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT", "in"),
        ("-A ufw-before-input -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", "in"),
        ("-A ufw-before-forward -p icmp -j ACCEPT", "through"),
        ("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "through"),
    ],
)
def test_one_rule_too_many_is_found(rule: str, judgement: str) -> None:
    assert broken(v4=add(V4, rule)) == {judgement}


@pytest.mark.parametrize(
    ("rule", "judgement"),
    [
        ("-A ufw6-before-output -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT", "out"),
        ("-A ufw6-before-output -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT", "out"),
        ("-A ufw6-before-input -p ipv6-icmp -m icmp6 --icmpv6-type 134 -m hl --hl-eq 255 -j ACCEPT", "in"),
        ("-A ufw6-user-input -s fd77:1::/64 -p tcp -m tcp --dport 22 -j ACCEPT", "in"),
    ],
)
def test_one_rule_too_many_is_found_in_ipv6(rule: str, judgement: str) -> None:
    assert broken(v6=add(V6, rule)) == {judgement}


def test_a_rule_reached_through_a_chain_of_chains_is_found() -> None:
    chained = ":a - [0:0]\n:b - [0:0]\n-A OUTPUT -p tcp -j a\n-A a -g b\n-A b -m tcp --dport 9 -j ACCEPT"
    text = add(V4, chained)
    assert broken(v4=text) == {"out"}
    assert judged(v4=text)["out"].found == "IPv4 b: -p tcp --dport 9"


def test_chains_that_nothing_leads_to_accept_nothing() -> None:
    assert not broken(v4=add(V4, ":lonely - [0:0]\n-A lonely -j ACCEPT"))


def test_chains_in_a_circle_end() -> None:
    assert not broken(v4=add(V4, ":a - [0:0]\n:b - [0:0]\n-A OUTPUT -j a\n-A a -j b\n-A b -j a"))


@pytest.mark.parametrize("chain", ["INPUT", "FORWARD", "OUTPUT"])
def test_a_policy_that_accepts_is_found(chain: str) -> None:
    names = {"INPUT": "in", "FORWARD": "through", "OUTPUT": "out"}
    assert broken(v6=V6.replace(f":{chain} DROP", f":{chain} ACCEPT")) == {"policies", names[chain]}


def test_a_firewall_that_is_not_there_keeps_nothing() -> None:
    assert broken(v4="") == {"policies", "out", "in", "through"}


def test_a_management_network_that_is_not_let_in_is_found() -> None:
    text = "".join(line for line in V4.splitlines(keepends=True) if "--dport 22" not in line)
    assert judged(v4=text)["in"].found == "SSH from 10.77.1.0/29 is not let in"


def test_ssh_on_another_port_than_the_inventorys_is_found() -> None:
    assert broken(port=2222) == {"out", "in"}  # type: ignore[arg-type]


def ruleset(*tables: str) -> str:
    entries = [{"rule": {"family": name.split()[0], "table": name.split()[1]}} for name in tables]
    return json.dumps({"nftables": [{"metainfo": {}}, *entries]})


def test_rules_beside_the_firewalls_are_found() -> None:
    assert rules.judge_tables(ruleset("ip filter", "ip6 filter")).kept
    assert rules.judge_tables(ruleset("ip filter", "ip6 filter", "ip nat")).found == "table ip nat: 1 rules"
    assert not rules.judge_tables(ruleset("ip filter")).kept


UFW = (RECORDED / "ufw.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("ENABLED=yes", "ENABLED=no"),
        ("IPV6=yes", "IPV6=no"),
        ('DEFAULT_OUTPUT_POLICY="DROP"', 'DEFAULT_OUTPUT_POLICY="ACCEPT"'),
        ('DEFAULT_INPUT_POLICY="DROP"', 'DEFAULT_INPUT_POLICY="REJECT"'),
        ('DEFAULT_FORWARD_POLICY="DROP"', ""),
        ("UNIT=enabled", "UNIT=disabled"),
        ("ACTIVE=active", "ACTIVE=inactive"),
    ],
)
def test_a_firewall_that_would_not_come_back_is_found(before: str, after: str) -> None:
    assert before in UFW
    assert rules.judge_kept(UFW.replace(before, after) if before else UFW).kept is not bool(before)
