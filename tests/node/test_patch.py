"""A patch on a booted node: it answers otherwise afterwards; what fails, hangs or is cut off goes back.

Tests of this module build on each other: one node is installed once, patched, and brought back.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.trust.statements import Permit, Release
from tests.node.awaiting import awaited
from tests.node.other_policy import other_policy, policy_of
from tests.node.patch_site import FIRST, PENDING, SECOND, UNIT, Site, boots, cut_off, wait_for
from tests.node.patches import (
    SABOTAGE,
    build_patch,
    bundle_of,
    leads_to,
    open_flow,
    rotated,
    starts_from,
)
from tests.node.standin_driver import LOADED, NAME, add_to, built, loaded_driver
from tests.node.test_journal import DEMO, Stick, remembered

if TYPE_CHECKING:
    from conftest import NewBundle, NewInstaller, PracticeLab

    from tests.conftest import Holders

pytestmark = [pytest.mark.node, pytest.mark.archive]


@pytest.fixture(scope="module")
def site(  # noqa: PLR0917 - what it is made of
    fresh_lab: PracticeLab,
    new_installer: NewInstaller,
    new_bundle: NewBundle,
    demo: Path,
    trusted: Path,
    holders: Holders,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    folder = tmp_path_factory.mktemp("second")
    definition = folder / "demo.yaml"
    text = DEMO.read_text().replace(FIRST, SECOND).replace('"1.0.0"', '"2.0.0"')
    definition.write_text(text.replace("sequence: 1", "sequence: 2"))
    second, patch = new_bundle(definition, folder), folder / "patch"
    key = holders.key("alice")
    build_patch(demo, second, patch, key)
    made = Site(new_installer(fresh_lab), patch, trusted, leads_to(patch), starts_from(patch))
    one, other = built(folder, "3.0"), built(folder, "4.0")
    third = add_to(folder / "lock.json", definition, one, version="3.0.0", sequence=3)
    fourth = add_to(*reversed(third), other, version="4.0.0", sequence=4)
    next_root, next_key = rotated(trusted, holders, folder / "keys"), holders.key("carol")
    keys = add_to(*reversed(third), one, version="3.0.1", sequence=5)
    driven = bundle_of(third, trusted, key)
    made.drivers = (
        build_patch(demo, driven, driven.parent / "patch", key),
        build_patch(driven, bundle_of(fourth, trusted, key), fourth[0].parent / "patch", key),
    )
    made.keys = build_patch(driven, bundle_of(keys, next_root, next_key), folder / "keys-alone", next_key)
    code, result, _ = made.installer()
    assert code == 0, result
    return made


def test_what_a_node_lacks_is_named_and_nothing_is_changed(site: Site) -> None:
    node = site.lab.node
    model = f"{site.copy_of(site.base)}/payload/model/tiny.gguf"
    node.inside(f"cp -a {model} /root/kept && printf x | dd of={model} bs=1 seek=100 conv=notrunc")
    code, result = site.apply()
    assert (code, result["error"]) == (5, "PatchUnfit")
    assert "payload/model/tiny.gguf" in result["found"]
    code, result = site.apply(patch=site.drivers[1])
    assert (code, result["error"], "a patch before this one is missing" in result["message"]) == (
        5,
        "PatchUnfit",
        True,
    )
    node.inside(f"cat /root/kept >{model}")
    assert node.inside("ls -d /var/lib/appliance/staged/*.complete | wc -l").stdout.strip() == "1"
    assert site.is_as_before()


def test_a_file_that_is_replaced_after_the_node_was_asked_is_noticed(site: Site) -> None:
    """The station is held as soon as it says where it goes on: the base was found whole by then."""
    node, model = site.lab.node, f"{site.copy_of(site.base)}/payload/model/tiny.gguf"
    command = site.command("patch", "apply", str(site.patch))
    running = node.operator_side.start(command, stderr=subprocess.PIPE, start_new_session=True)
    assert running.stderr is not None
    try:
        while "first run of this bundle" not in running.stderr.readline():
            assert running.poll() is None, running.communicate()
        os.killpg(running.pid, signal.SIGSTOP)
        node.inside(f"cp -a {model} /root/other && printf x | dd of=/root/other bs=1 seek=100 conv=notrunc")
        node.inside(f"touch -r {model} /root/other && mv {model} /root/kept && mv /root/other {model}")
        os.killpg(running.pid, signal.SIGCONT)
        told = json.loads(running.communicate(timeout=300)[0])
    finally:
        running.kill()
    assert (told["error"], told["exit_code"]) == ("DigestMismatch", 4)
    assert "tiny.gguf" in told["message"]
    node.inside(f"mv /root/kept {model} && rm -r {site.copy_of(site.digest)}*")
    assert site.is_as_before()


def test_a_check_tells_what_would_change_and_changes_nothing(site: Site) -> None:
    code, result = site.apply("--check")
    assert code == 0, result
    assert [change for change in result["changes"] if "inference_server" in change]
    node = site.lab.node
    assert node.inside("ls -d /var/lib/appliance/staged/*.complete | wc -l").stdout.strip() == "1"
    assert node.inside("ls /opt/appliance/inference | wc -l").stdout.strip() == "1"
    assert site.is_as_before()


def test_a_health_check_that_fails_leads_back_and_says_why(site: Site) -> None:
    node = site.lab.node
    node.inside(SABOTAGE.format(unit=UNIT, digest=site.digest, deed="exit 7"))
    code, result = site.apply()
    assert (code, result["error"]) == (7, "ApplyFailed")
    assert f"{node.name} went back to 1.0.0, which ran before" in result["hint"]
    assert site.is_as_before()
    line = site.history()[-1]
    assert (line["result"], line["to"]["version"]) == ("went back", "2.0.0")
    assert line["reason"].startswith("ApplyFailed")
    node.inside(f"rm -r {UNIT}.d && systemctl daemon-reload")
    assert site.differences() == 0


def test_a_service_that_hangs_on_a_node_that_lost_ssh_leads_back_without_a_station(site: Site) -> None:
    """Nobody but the node is left to act; the station says what it knows, and where to ask."""
    node = site.lab.node
    node.inside(SABOTAGE.format(unit=UNIT, digest=site.digest, deed="sleep 600"))
    (card,) = node.inside("ls /sys/class/net | grep -v lo").stdout.split()
    running = node.operator_side.start(
        site.command("patch", "apply", str(site.patch), "--within", "25"), stderr=subprocess.DEVNULL
    )
    try:
        wait_for(site, f"grep -q {site.digest} {UNIT}")
        node.inside(f"ip link set {card} down")
        wait_for(site, f"test ! -e {PENDING}")
        told = json.loads(running.communicate(timeout=300)[0])
    finally:
        running.kill()
    assert (told["error"], told["exit_code"]) == ("NodeUnreachable", 6)
    assert f"{node.name} goes back to 1.0.0 by itself within 25 s, or when it restarts" in told["hint"]
    node.inside(f"rm -r {UNIT}.d && systemctl daemon-reload && networkctl up {card}")
    wait_for(site, f"networkctl status {card} | grep -q routable")
    awaited(site.is_as_before, "the node forgets the timer last")
    assert site.history()[-1]["reason"] == "nobody said within 25 s that the new version is proven"


def test_a_station_that_is_killed_as_the_switch_begins_leaves_the_old_version_serving(site: Site) -> None:
    """What comes next takes its run over."""
    with cut_off(site, f"test -e {PENDING}/armed.json"):
        assert site.serves(site.base)
    assert (
        site.run("history", state=False)[1]["nodes"][site.lab.node.name]["pending"]["to"]["sequence"] == 2
    )


def test_a_power_cut_before_the_proof_leads_back_and_so_does_the_policy_that_came_along(site: Site) -> None:
    """At every other step: tests/unit/node/patching/test_switch.py."""
    before = policy_of(site.lab)
    with other_policy(site.lab) as in_force, cut_off(site, in_force):
        assert policy_of(site.lab) != before
        site.lab.node.reboot(power_cut=True)
    awaited(site.is_as_before, "the network is looked at last")
    assert policy_of(site.lab) == before
    assert "restarted before" in site.history()[-1]["reason"]
    assert site.differences() == 0


def test_a_version_that_is_left_takes_its_policy_along_and_opens_nothing(site: Site) -> None:
    """The filter, the network and the SSH server were confirmed by then, so their own revert is over."""
    before = policy_of(site.lab)
    with other_policy(site.lab) as in_force, cut_off(site, in_force):
        assert policy_of(site.lab) != before
    code, result = site.run("rollback")
    assert code == 0, result
    assert site.is_as_before()
    assert policy_of(site.lab) == before
    assert site.history()[-1]["result"] == "went back"
    assert site.differences() == 0


def test_a_station_that_is_killed_after_the_proof_leaves_the_new_version_serving(site: Site) -> None:
    """It is proven, and not recorded: ``status`` still names the old one, and the history knows better."""
    proven = 'tail -n 1 /var/lib/appliance/history.jsonl | grep -q \'"result": "done"\''
    with cut_off(site, f"test ! -e {PENDING} && {proven}"):
        assert site.serves(site.digest)
    assert (site.answer(), site.installed()) == (SECOND, "1.0.0")
    line = site.history()[-1]
    assert (line["action"], line["result"], line["signers"]) == ("patch", "done", ["alice"])
    assert (line["from"]["sequence"], line["to"]["digest"]) == (1, site.digest)
    assert line["medium"] == [str(site.patch)]


def test_the_same_command_again_completes_the_record(site: Site) -> None:
    """With it comes what the site asks for by now: a flow, which is proven in the same run."""
    node = site.lab.node
    peer = open_flow(site.lab)
    code, result = site.apply()
    assert code == 0, result
    report = json.loads(Path(result["nodes"][node.name]["qualify"]["report"]).read_text())
    (flows,) = [each for each in report["items"] if each["name"] == "outbound.flows"]
    assert f"udp {peer} port 5140" in flows["found"]
    values = result["nodes"][node.name]
    assert values["qualify"]["verdict"] == "passed"
    assert values["stage"]["bytes"] < 1 << 20, "what is the same is not copied"
    assert (site.answer(), site.installed()) == (SECOND, "2.0.0")
    killed, line = site.history()[-2:]
    assert (line["result"], line["from"], line["to"]) == ("done", killed["to"], killed["to"])
    said = json.loads(node.inside("cat /var/lib/appliance/installed.json").stdout)
    assert said["previous"] == killed["from"]["digest"] == site.base
    assert remembered(node.operator_side, site.lab)["products"]["demo"]["sequence"] == 2
    assert site.differences() == 0
    shared = node.inside("find /var/lib/appliance/staged -type f -links +1 | wc -l").stdout
    assert int(shared) > 100 or node.inside("stat -f -c %T /var/lib/appliance").stdout.strip() in {
        "btrfs",
        "xfs",
    }


def test_a_patch_is_applied_once(site: Site) -> None:
    code, result = site.apply()
    assert (code, result["already"], result["nodes"]) == (0, [site.lab.node.name], {})
    assert result["digest"] == site.digest


def test_after_a_power_cut_the_new_version_serves_and_says_so(site: Site) -> None:
    site.lab.node.reboot(power_cut=True)
    assert site.serves(site.digest)
    assert (site.answer(), site.installed()) == (SECOND, "2.0.0")


def test_going_back_takes_a_permit_and_no_medium(
    site: Site, holders: Holders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code, result = site.run("rollback")
    assert (code, result["error"]) == (4, "RollbackRefused")
    assert site.answer() == SECOND
    first, second = (site.history()[-2][key] for key in ("from", "to"))
    identity = remembered(site.lab.node.operator_side, site.lab)["journal"]
    stick = Stick(tmp_path_factory.mktemp("stick"), holders)
    step = (Release(second["sequence"], second["digest"]), Release(first["sequence"], first["digest"]))
    stick.add(Permit(site.lab.node.name, identity, secrets.token_hex(32), "demo", *step, "rehearsal"))
    code, result = site.run("rollback", "--statements", str(stick.path))
    assert code == 0, result
    assert site.is_as_before()
    assert (site.history()[-1]["action"], site.history()[-1]["result"]) == ("rollback", "done")


def test_a_driver_waits_for_somebody_elses_restart_and_then_goes_on(site: Site) -> None:
    """What serves is not touched until then; the command that was ended is run again."""
    node, patch = site.lab.node, site.drivers[0]
    code, result = site.apply("--no-reboot", patch=patch)
    assert (code, result["error"]) == (5, "RestartPending")
    assert NAME in result["found"]
    assert (site.answer(), site.installed(), loaded_driver(site.lab)) == (FIRST, "1.0.0", ("3.0", ""))
    said = site.run("history", state=False)[1]["nodes"][node.name]
    assert (said["restart"]["late"], said["pending"]["to"]["version"]) == ([NAME], "3.0.0")
    (told,) = site.run("status", state=False)[1]["nodes"]
    assert told["restart"] == [NAME]
    node.reboot()
    assert site.run("history", state=False)[1]["nodes"][node.name]["pending"], "it waits for its proof"
    code, result = site.apply(patch=patch)
    assert code == 0, result
    assert (site.answer(), site.installed(), loaded_driver(site.lab)) == (SECOND, "3.0.0", ("3.0", "3.0"))
    assert (site.history()[-1]["result"], site.differences()) == ("done", 0)


def test_a_driver_whose_version_breaks_a_promise_goes_back_over_a_second_restart(site: Site) -> None:
    """The server starts and answers; beside it, something listens that nobody asked for."""
    node, patch = site.lab.node, site.drivers[1]
    listen = "systemd-run --unit=test-listens python3 -m http.server 9999 || true"
    node.inside(SABOTAGE.format(unit=UNIT, digest=leads_to(patch), deed=listen))
    before = boots(site)
    code, result = site.apply(patch=patch)
    assert (code, result["error"]) == (8, "QualificationFailed")
    assert "tcp 0.0.0.0 port 9999" in result["found"]
    assert f"{node.name} went back to 3.0.0, which ran before; pending restart" in result["hint"]
    until = time.monotonic() + 120
    while boots(site) != before + 2:
        assert time.monotonic() < until, "it does not restart"
        time.sleep(0.2)
    wait_for(site, f"grep -qx 3.0 {LOADED} && systemctl is-active --quiet appliance-inference")
    assert loaded_driver(site.lab) == ("3.0", "3.0")
    line = site.history()[-1]
    assert (line["result"], line["to"]["version"]) == ("went back", "4.0.0")
    assert line["reason"].startswith("QualificationFailed")
    assert site.run("history", state=False)[1]["nodes"][node.name]["restart"] is None
    node.inside(f"rm -r {UNIT}.d && systemctl daemon-reload")
    assert (site.answer(), site.installed(), site.differences()) == (SECOND, "3.0.0", 0)


def test_a_patch_that_is_older_is_refused(site: Site) -> None:
    code, result = site.apply()
    assert (code, result["error"], "older than the base" in result["message"]) == (5, "PatchUnfit", True)
    assert (site.answer(), site.installed()) == (SECOND, "3.0.0")


def test_keys_alone_are_learnt_in_one_step_and_what_serves_is_not_touched(site: Site) -> None:
    """Signed by the next root's key, on a station and a node that know the one before."""
    node, look = (
        site.lab.node,
        "systemctl show -P InvocationID appliance-inference; ls /var/lib/appliance/staged",
    )
    before = node.inside(look).stdout
    code, result = site.apply(patch=site.keys)
    assert code == 0, result
    assert (node.inside(look).stdout, site.installed()) == (before, "3.0.0")
    (told,) = site.run("status", state=False)[1]["nodes"]
    assert told["inventory"]["journal"]["root"] == 2
    lines = site.history()
    assert (lines[-1]["action"], lines[-1]["result"], lines[-1]["reason"]) == (
        "keys",
        "done",
        "it knows root 2",
    )
    assert site.apply(patch=site.keys)[0] == 0
    assert site.history() == lines, "what is known is not learnt again"


def test_no_way_leads_back_over_a_root(site: Site) -> None:
    code, result = site.apply(patch=site.drivers[1])
    assert (code, result["error"]) == (4, "RollbackRefused")
    assert "root" in result["message"] + result["found"]
    assert (site.answer(), site.installed()) == (SECOND, "3.0.0")
