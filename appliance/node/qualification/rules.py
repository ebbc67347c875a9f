"""Judges the live packet filter, rule by rule: whatever can be accepted must be on a short list.

Read with ``iptables-save``: the kernel's rules, not ufw's files.  Every path from a built-in chain to
an ACCEPT is followed, and all conditions met on the way are collected; a path is fine only if those
conditions confine it to what is allowed.  That a rule may be shadowed by an earlier one is not taken
into account: a rule that would accept is a rule too many.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.definition.inventory import Network
    from appliance.node.qualification.flows import FlowRule

SAVED: Final = {4: "iptables-save -t filter", 6: "ip6tables-save -t filter"}
CHAINS: Final = ("INPUT", "FORWARD", "OUTPUT")

#: Targets after which a packet goes no further, or comes back as if nothing had been said.
_HARMLESS: Final = {"DROP", "REJECT", "RETURN", "LOG", "NFLOG", ""}

#: ICMPv6 without which IPv6 does not work on a wire: neighbours (RFC 4861), and reports to switches
#: about multicast groups (RFC 2710, RFC 3810).  Routers' messages are not among them.
_NEIGHBOURS: Final = {"135", "136", "neighbour-solicitation", "neighbour-advertisement"}
_NEIGHBOURS_IN: Final = _NEIGHBOURS | {"130"}
_NEIGHBOURS_OUT: Final = _NEIGHBOURS | {"131", "132", "143"}


@dataclass(frozen=True)
class Rule:
    """One rule: its conditions as option to value (``!`` before a negated one), and its target."""

    conditions: tuple[tuple[str, str], ...]
    target: str


@dataclass
class RuleSet:
    """The filter table of one family."""

    policies: dict[str, str] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """A way to be accepted: every condition on the path from the built-in chain to the ACCEPT."""

    conditions: tuple[tuple[str, str], ...]
    chain: str

    def values(self, *options: str) -> set[str]:
        return {value for option, value in self.conditions if option in options}

    def __str__(self) -> str:
        conditions = " ".join(f"{option} {value}".strip() for option, value in self.conditions)
        return f"{self.chain}: {conditions or 'anything'}"


def parse_save(text: str) -> RuleSet:
    """The filter table out of ``iptables-save`` or ``ip6tables-save``."""
    ruleset, table = RuleSet(), ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != "filter":
            continue
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            ruleset.rules.setdefault(chain, [])
            if policy != "-":
                ruleset.policies[chain] = policy
        elif line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            ruleset.rules.setdefault(chain, []).append(_rule(words))
    return ruleset


def _rule(words: Sequence[str]) -> Rule:
    conditions: list[tuple[str, str]] = []
    target, negated, at = "", "", 0
    while at < len(words):
        word = words[at]
        if word == "!":
            negated, at = "! ", at + 1
            continue
        end = at + 1
        while end < len(words) and not words[end].startswith("-") and words[end] != "!":
            end += 1
        value = " ".join(words[at + 1 : end])
        if word in {"-j", "-g"}:
            target = value
            break  # what follows belongs to the target (log prefixes and the like)
        if word not in {"-m", "--comment"}:
            conditions.append((negated + word, value))
        negated, at = "", end
    return Rule(tuple(conditions), target)


def grants(ruleset: RuleSet, chain: str) -> Iterator[Grant]:
    """Every way to be accepted that begins in this built-in chain."""
    if ruleset.policies.get(chain) != "DROP":
        yield Grant((("policy", ruleset.policies.get(chain, "none")),), chain)
    yield from _grants(ruleset, chain, (), ())


def _grants(
    ruleset: RuleSet, chain: str, met: tuple[tuple[str, str], ...], path: tuple[str, ...]
) -> Iterator[Grant]:
    if chain in path:
        return  # the kernel refuses loops; a damaged listing must not hang us
    for rule in ruleset.rules.get(chain, []):
        conditions = met + rule.conditions
        if rule.target in ruleset.rules:
            yield from _grants(ruleset, rule.target, conditions, (*path, chain))
        elif rule.target not in _HARMLESS:
            other = () if rule.target == "ACCEPT" else (("target", rule.target),)
            yield Grant(conditions + other, chain)


def judge_policies(ruleset4: RuleSet, ruleset6: RuleSet) -> Finding:
    """What no rule speaks of is dropped, in all three chains of both families."""
    found = [
        f"{family} {chain} {ruleset.policies.get(chain, 'none')}"
        for family, ruleset in (("IPv4", ruleset4), ("IPv6", ruleset6))
        for chain in CHAINS
    ]
    wrong = [each for each in found if not each.endswith(" DROP")]
    return Finding(
        not wrong, ", ".join(wrong or found), "DROP for INPUT, FORWARD and OUTPUT, IPv4 and IPv6"
    )


def judge_out(
    ruleset4: RuleSet,
    ruleset6: RuleSet,
    networks: Sequence[Network],
    port: int,
    flows: Sequence[FlowRule] = (),
) -> Finding:
    """Out: loopback, replies of SSH to the management networks, neighbours on the wire, and flows.

    ``flows``: those of the inventory, and the questions to its time servers.
    """
    wanted = {str(each) for each in networks}
    wrong, seen = [], set()
    for family, ruleset in (("IPv4", ruleset4), ("IPv6", ruleset6)):
        for grant in grants(ruleset, "OUTPUT"):
            begun = [flow for flow in flows if flow.direction == "out" and flow.lets_begin(grant)]
            seen |= set(begun)
            if not (
                begun
                or _loopback(grant, "-o")
                or _neighbours(grant, _NEIGHBOURS_OUT)
                or _ssh_reply(grant, port, wanted)
                or any(flow.lets_answer(grant) for flow in flows)
            ):
                wrong.append(f"{family} {grant}")
    declared = [flow for flow in flows if flow.direction == "out"]
    wrong += [f"{flow}: no rule lets it out" for flow in declared if flow not in seen]
    allowed = "loopback, replies of SSH to the management networks, IPv6 neighbour messages"
    allowed += "".join(f"; {flow}" for flow in declared)
    return Finding(not wrong, lines(wrong, otherwise=f"nothing but {allowed}"), f"at most: {allowed}")


def judge_through(ruleset4: RuleSet, ruleset6: RuleSet) -> Finding:
    """Through: nothing at all."""
    wrong = [
        f"{family} {grant}"
        for family, ruleset in (("IPv4", ruleset4), ("IPv6", ruleset6))
        for grant in grants(ruleset, "FORWARD")
    ]
    return Finding(not wrong, lines(wrong, otherwise="nothing is accepted"), "nothing is accepted")


def judge_in(
    ruleset4: RuleSet,
    ruleset6: RuleSet,
    networks: Sequence[Network],
    port: int,
    flows: Sequence[FlowRule] = (),
) -> Finding:
    """In: loopback, what belongs to a connection, neighbours, SSH from management networks, and flows."""
    wrong, missing = [], []
    begun: set[FlowRule] = set()
    for version, family, ruleset in ((4, "IPv4", ruleset4), (6, "IPv6", ruleset6)):
        wanted = {str(each) for each in networks if each.version == version}
        seen: set[str] = set()
        for grant in grants(ruleset, "INPUT"):
            if _loopback(grant, "-i") or _established(grant) or _neighbours(grant, _NEIGHBOURS_IN):
                continue
            source = _ssh_source(grant, port)
            declared = [flow for flow in flows if flow.direction == "in" and flow.lets_begin(grant)]
            begun |= set(declared)
            if source in wanted:
                seen.add(source)
            elif not declared:
                wrong.append(f"{family} {grant}")
        missing += [f"SSH from {each} is not let in" for each in sorted(wanted - seen)]
    inwards = [flow for flow in flows if flow.direction == "in"]
    missing += [f"{flow}: no rule lets it in" for flow in inwards if flow not in begun]
    ssh = f"SSH (port {port}) from " + ", ".join(str(each) for each in networks)
    ssh += "".join(f"; {flow}" for flow in inwards)
    others = "loopback, packets of connections that were let in, IPv6 neighbour messages"
    found = lines(wrong + missing, otherwise=f"{ssh}; {others}")
    return Finding(not wrong and not missing, found, f"exactly {ssh}; at most {others}")


def _loopback(grant: Grant, interface: str) -> bool:
    return grant.values(interface) == {"lo"}


def _established(grant: Grant) -> bool:
    """Packets that belong to a connection; nothing begins one but what another rule lets in."""
    states = grant.values("--ctstate", "--state")
    return any(set(value.split(",")) <= {"RELATED", "ESTABLISHED"} for value in states)


def _neighbours(grant: Grant, kinds: set[str]) -> bool:
    """Messages that no router passes on: sent with hop limit 255 or 1."""
    return bool(grant.values("--icmpv6-type") & kinds) and bool(grant.values("--hl-eq") & {"255", "1"})


def _ssh_source(grant: Grant, port: int) -> str | None:
    """The network a path lets SSH in from, if that is all it lets in."""
    if grant.values("target", "policy") or grant.values("-p") != {"tcp"}:
        return None
    sources = grant.values("-s")
    if grant.values("--dport") != {str(port)} or len(sources) != 1:
        return None
    return _network(sources.pop())


def _ssh_reply(grant: Grant, port: int, networks: set[str]) -> bool:
    """Segments from SSH's own port to a management network that cannot open a connection."""
    if grant.values("target", "policy") or grant.values("-p") != {"tcp"}:
        return False
    targets = grant.values("-d")
    opens_none = grant.values("! --tcp-flags") == {"FIN,SYN,RST,ACK SYN"}
    inside = len(targets) == 1 and _network(targets.pop()) in networks
    return opens_none and inside and grant.values("--sport") == {str(port)}


def _network(text: str) -> str:
    """An address as iptables-save writes it, spelt like the inventory's networks."""
    return text if "/" in text else f"{text}/{128 if ':' in text else 32}"


TABLES: Final = "nft -j list ruleset"
#: Without counters, so that the same rules give the same text.
LISTING: Final = "nft --stateless list ruleset"


def judge_tables(listing: str) -> Finding:
    """No rules outside ufw's two tables: nothing redirects, translates or marks packets."""
    entries = json.loads(listing).get("nftables", [])
    counts: dict[str, int] = {}
    for entry in entries:
        if rule := entry.get("rule"):
            name = f"{rule['family']} {rule['table']}"
            counts[name] = counts.get(name, 0) + 1
    others = [f"table {name}: {count} rules" for name, count in counts.items() if name not in _OURS]
    wanted = "rules in the tables ip filter and ip6 filter only"
    found = ", ".join(f"{name}: {counts.get(name, 0)} rules" for name in sorted(_OURS))
    if any(name not in counts for name in _OURS):
        return Finding(kept=False, found=lines([*others, found], otherwise=""), wanted=wanted)
    return Finding(not others, lines(others, otherwise=found), wanted)


_OURS: Final = {"ip filter", "ip6 filter"}

#: When the rules are loaded, and what the network waits for.
ORDER: Final = "systemctl show --property=Id,Before,After,Wants ufw.service systemd-networkd.service"


def judge_order(text: str) -> Finding:
    """The rules are there before an interface is up, at every start."""
    units = [
        dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")
    ]
    found = {unit.get("Id", ""): {key: value.split() for key, value in unit.items()} for unit in units}
    point = "network-pre.target"
    wanted = {("ufw.service", "Before"), ("ufw.service", "Wants"), ("systemd-networkd.service", "After")}
    wrong = [
        f"{name}: {point} is not in {key}="
        for name, key in sorted(wanted)
        if point not in found.get(name, {}).get(key, [])
    ]
    text = f"ufw.service before {point}, systemd-networkd.service after it"
    return Finding(not wrong, lines(wrong, otherwise=text), text)


#: What makes the firewall come back with the node.
KEPT: Final = (
    "cat /etc/ufw/ufw.conf /etc/default/ufw; "
    "echo ACTIVE=$(systemctl is-active ufw.service); echo UNIT=$(systemctl is-enabled ufw.service); true"
)


def judge_kept(text: str) -> Finding:
    """The firewall is on, will be on after the next start, and denies by default."""
    values = dict(re.findall(r'^([A-Z0-9_]+)="?([A-Za-z-]*)"?\s*$', text, flags=re.MULTILINE))
    wanted = {
        "ENABLED": "yes",
        "UNIT": "enabled",
        "ACTIVE": "active",
        "IPV6": "yes",
        "DEFAULT_INPUT_POLICY": "DROP",
        "DEFAULT_OUTPUT_POLICY": "DROP",
        "DEFAULT_FORWARD_POLICY": "DROP",
        # Profiles that packages bring open nothing by themselves.
        "DEFAULT_APPLICATION_POLICY": "SKIP",
    }
    wrong = [
        f"{name}={values.get(name, '')}" for name, value in wanted.items() if values.get(name) != value
    ]
    wanted_text = ", ".join(f"{name}={value}" for name, value in wanted.items())
    return Finding(not wrong, ", ".join(wrong) or "on, enabled at start, denies by default", wanted_text)
