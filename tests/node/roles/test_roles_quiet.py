"""The role ``quiet_host`` on a fresh node: check, apply, apply again, and what the node no longer does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.host_data import load_host_data, patterns

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

ROLES = ("base", "revert", "network_isolation", "quiet_host", "firewall")
PACKAGES = ["ufw", "nftables", "netplan.io", "openssh-server", "python3", "kmod"]

#: Everything a run could change on the node, each as one text.
STATE = {
    "files": (
        "find /etc /usr/local /var/lib/appliance -path /var/lib/appliance/staged -prune"
        " -o -printf '%p %M %U:%G %l\\n' | sort; find /etc /usr/local -type f -exec sha256sum {} + | sort"
    ),
    "units": "systemctl list-unit-files --no-legend; systemctl list-units --all --no-legend --plain | sort",
    "settings": f"sysctl {' '.join(patterns(load_host_data().kernel))} 2>/dev/null; true",
    "tmp": "findmnt -no OPTIONS /tmp",
}

FILES = "Have what keeps programs quiet, cores unwritten and people warned"
UNITS = "Stop what phones home, and tell what nobody has judged"
SSH = "Harden the SSH server with what the real sshd accepts"
CONFIRM = "Confirm the change over a fresh connection"


def state(node: Any) -> dict[str, str]:
    return {name: node.inside(command).stdout for name, command in STATE.items()}


@dataclass
class History:
    """What happened to the module's node, in order."""

    lab: Any
    site: Any
    before: dict[str, str]
    check: Any
    after_check: dict[str, str]
    apply: Any
    again: Any
    check_again: Any


@pytest.fixture(scope="module")
def history(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> History:
    lab, site = fresh_lab, new_site(fresh_lab)
    site.components["system"]["packages"] = PACKAGES
    before = state(lab.node)
    check = site.play(check=True, tags=ROLES)  # before anything is staged: the node is clean
    after_check = state(lab.node)
    stage(lab.node)
    apply = site.play(tags=ROLES)
    again, check_again = site.play(tags=ROLES), site.play(check=True, tags=ROLES)
    return History(lab, site, before, check, after_check, apply, again, check_again)


def test_check_on_a_clean_node_succeeds_and_tells_what_would_change(history: History) -> None:
    assert history.check.failed == {}, history.check.log
    assert {FILES, UNITS, SSH} <= set(history.check.changed)


def test_check_on_a_clean_node_changes_nothing(history: History) -> None:
    for name, text in history.before.items():
        assert history.after_check[name] == text, name


def test_apply_succeeds(history: History) -> None:
    assert history.apply.failed == {}, history.apply.log
    assert {FILES, UNITS, SSH} <= set(history.apply.changed)


def test_a_second_run_changes_nothing(history: History) -> None:
    assert history.again.failed == {}, history.again.log
    assert history.again.changed == [], history.again.log
    assert history.check_again.changed == [], history.check_again.log


def test_every_unit_of_a_plain_debian_has_been_judged(history: History) -> None:
    warnings = [warning for event in history.apply.events for warning in event.get("warnings", ())]
    assert [warning for warning in warnings if "nobody has judged" in warning] == []
