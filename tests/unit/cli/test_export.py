"""``appliance export``: what it prints, asks for and refuses; the loops have tests of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.export.checkpoint import sign_checkpoint
from appliance.export.places import read_identity
from appliance.export.segment_log import SegmentLog
from appliance.export.segments import FrameKind
from tests.unit.export.nodes import Node, chance

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Outcome

COMMANDS = ("init", "send", "scrape", "receive", "replay", "check", "status", "dashboard")


@pytest.fixture
def sender(tmp_path: Path, appliance: Callable[..., Outcome]) -> Path:
    done = appliance("export", "init", tmp_path / "sender", "--name", "gpu-01", "--json")
    assert done.code == 0
    assert done.json["folder"] == str(tmp_path / "sender")
    return tmp_path / "sender"


def archive(folder: Path, node: Node, *without: int) -> Path:
    folder.mkdir()
    log = SegmentLog(str(folder))
    kept = [each for each in node.blocks if each.header.block not in without]
    log.append([(FrameKind.BLOCK, each.data) for each in kept])
    log.append([(FrameKind.CHECKPOINT, sign_checkpoint(node.checkpoint(), node.identity.key))])
    log.close()
    return folder


def test_help_shows_examples_and_exit_codes(appliance: Callable[..., Outcome]) -> None:
    for command in COMMANDS:
        done = appliance("export", command, "--help")
        assert done.code == 0
        assert f"appliance export {command}" in done.out
        assert "Examples:" in done.out
        assert "Exit codes:" in done.out


def test_a_whole_archive_is_said_to_be_whole(
    tmp_path: Path, sender: Path, appliance: Callable[..., Outcome]
) -> None:
    node = Node(read_identity(sender))
    node.many(9)
    folder = archive(tmp_path / "archive", node)
    done = appliance("export", "check", folder, "--sender", sender / "gpu-01.sender.json")
    assert done.code == 0
    assert "reaches      to block 9, sequence 9" in done.out
    assert done.out.endswith("result       whole\n")


def test_what_is_missing_is_said_as_it_is_typed_at_the_node(
    tmp_path: Path, sender: Path, appliance: Callable[..., Outcome]
) -> None:
    node = Node(read_identity(sender))
    node.many(9)
    folder = archive(tmp_path / "archive", node, 3, 4)
    done = appliance("export", "check", folder, "--sender", sender / "gpu-01.sender.json")
    assert done.code == 4
    (line,) = (each for each in done.out.splitlines() if each.startswith("missing"))
    typed = line.split()[1].rstrip(",")
    assert "sequences 3 to 4, open" in line
    assert done.out.endswith("result       NOT whole\n")
    replayed = appliance("export", "replay", sender, typed, "--medium", tmp_path / "m", "--json")
    assert replayed.json == {"blocks": 0, "wanted": 2}
    assert appliance("export", "replay", sender, f"9{typed}", "--medium", tmp_path / "m").code == 2


def test_the_dashboard_is_printed_as_it_is_installed(appliance: Callable[..., Outcome]) -> None:
    done = appliance("export", "dashboard")
    assert done.code == 0
    assert json.loads(done.out)["uid"] == "appliance-export-receiver"


def test_a_status_is_shown_for_people_and_programs(
    tmp_path: Path, sender: Path, appliance: Callable[..., Outcome]
) -> None:
    public = sender / "gpu-01.sender.json"
    node = Node(read_identity(sender))
    node.many(9)
    medium = archive(tmp_path / "medium", node, 3, 4)
    taken = appliance("export", "receive", tmp_path / "r", "--sender", public, "--medium", medium, "--json")
    assert taken.json["kept"] == 9
    values = {"side": "receiver", "time": 0, "packets": 1, "bytes": 2, "socket_drops": 3} | taken.json
    values["rates"] = {"packets": 1.5, "bytes": 125_000.0}
    values["nodes"][0] |= {"records_rate": 2.5, "symbols": 200, "symbols_lost": 3, "breaks": [7]}
    values["nodes"][0] |= {"troubles": {"kafka.cursor": "away"}, "behind": {"kafka.cursor": 2500}}
    (tmp_path / "r/status.json").write_text(json.dumps(values))
    done = appliance("export", "status", tmp_path / "r")
    assert done.code == 0
    assert "as of 1970-01-01T00:00:00Z" in done.out
    assert "packets      1, 1.5/s, 1.00 Mb/s; dropped by the socket 3" in done.out
    heads, row = done.out.splitlines()[3:5]
    assert heads.split() == [
        "node",
        "records",
        "records/s",
        "blocks",
        "repaired",
        "loss",
        "dropped",
        "gaps",
        "lost",
        "checkpoint",
    ]
    assert row.split()[:10] == ["gpu-01", "7", "2.5", "8", "0", "1.5", "%", "0", "1", "0"]
    assert row[heads.index("gaps")] == "1"
    assert "gpu-01: gap 3-4/" in done.out
    assert "gpu-01: ALARM, breaks 1" in done.out
    assert "gpu-01: trouble, kafka.cursor: away; 2.5 kB of the archive wait" in done.out
    assert appliance("export", "status", tmp_path / "r", "--json").json["nodes"][0]["gaps"][0]["range"] in (
        done.out
    )


SENDER = {
    "side": "sender",
    "time": 0,
    "epoch": 7,
    "next_block": 12,
    "next_sequence": 1001,
    "passes": [12, 10, 2],
    "dropped": 4,
    "dropping": True,
    "packets": 99,
    "filling": 3,
    "send_faults": 1,
    "rates": {"records": 12.5, "bytes": 250_000.0, "packets": 9.0, "spooled": 1.0},
    "spool": {"bytes": 1_500_000, "limit": 1 << 30, "oldest": 2, "days_left": 12.25},
    "sources": {
        "journal": {"waits": True, "trouble": ""},
        "checks": {"waits": False, "trouble": "/x: Permission denied"},
    },
}


def test_a_sender_s_status_says_how_long_its_spool_lasts(
    tmp_path: Path, appliance: Callable[..., Outcome]
) -> None:
    (tmp_path / "status.json").write_text(json.dumps(SENDER))
    done = appliance("export", "status", tmp_path)
    assert done.out.splitlines() == [
        "sender       as of 1970-01-01T00:00:00Z, epoch 7",
        "records      1,000 in all, 12.5/s; dropped 4, DROPPING",
        "sent         99 packets, 2.00 Mb/s; filling 3; faults 1",
        "blocks       12; to be sent by pass 0, 2, 10",
        "spool        1.5 MB of 1.1 GB, 12.2 days left; from 2",
        "source   state           trouble",
        "journal  waits for room  none",
        "checks   read            /x: Permission denied",
    ]
    quiet = {**SENDER, "spool": {**SENDER["spool"], "days_left": None}}  # type: ignore[dict-item]
    (tmp_path / "status.json").write_text(json.dumps(quiet))
    assert "nothing comes" in appliance("export", "status", tmp_path).out


def test_a_full_spool_has_an_end_of_its_own_that_is_shown(
    sender: Path, tmp_path: Path, appliance: Callable[..., Outcome]
) -> None:
    """A unit stops the workload by this exit code alone."""
    with (tmp_path / "lines").open("w+b") as lines:
        for number in range(240):
            lines.write(chance(number).randbytes(50_000).replace(b"\n", b"") + b"\n")
        lines.seek(0)
        options = ("--stdin", "--spool", "8", "--rate", "0.01", "--stop-when-full", "--json")
        program = Path(sys.executable).with_name("appliance")
        done = subprocess.run(
            [program, "export", "send", sender, "--to", "127.0.0.1:9", *options],
            stdin=lines,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, json.loads(done.stdout)["error"]) == (10, "SpoolFull")
    assert "ENDED        spool-full" in appliance("export", "status", sender).out
    assert appliance("export", "status", sender, "--json").json["ended"] == "spool-full"
    assert "\nappliance_export_ended 1\n" in (sender / "metrics.prom").read_text()


@pytest.mark.parametrize(
    ("line", "walls"),
    [
        ({"watched": True, "received": 0, "faults": []}, ["walls        watched; no frame came in"]),
        (
            {"watched": False, "received": 1234, "faults": ["export0 speaks ARP"]},
            [
                "walls        NOBODY WATCHES; ALARM, 1,234 frames came in",
                "walls        ALARM, export0 speaks ARP",
            ],
        ),
    ],
)
def test_a_sender_s_status_says_how_its_walls_stand(
    tmp_path: Path, appliance: Callable[..., Outcome], line: dict[str, Any], walls: list[str]
) -> None:
    (tmp_path / "status.json").write_text(json.dumps({**SENDER, "line": line}))
    found = appliance("export", "status", tmp_path).out.splitlines()
    assert [each for each in found if each.startswith("walls")] == walls


@pytest.mark.parametrize(("count", "more"), [(9, ()), (6, ("--watched", "W"))])
def test_there_is_room_for_eight_digests_those_of_the_walls_among_them(
    sender: Path, appliance: Callable[..., Outcome], count: int, more: tuple[str, ...]
) -> None:
    def sent(count: int) -> Outcome:
        given = [each for number in range(count) for each in ("--digest", f"a{number}={'0' * 64}")]
        where = ("export", "send", sender, "--to", "127.0.0.1:9", "--stdin", "--select", "/nowhere")
        return appliance(*where, *given, *more)

    assert f"at most {count - 1}" in sent(count).err
    assert "there is no file /nowhere" in sent(count - 1).err


def test_a_status_is_shown_again_until_somebody_wants_an_end(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps(SENDER))
    entry = "from appliance.cli.app import main; main()"
    command = [sys.executable, "-c", entry, "export", "status", str(tmp_path), "--watch", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as shown:
        assert shown.stdout
        for _ in range(2):
            assert json.loads(shown.stdout.readline())["epoch"] == 7
        shown.send_signal(signal.SIGINT)
        assert shown.wait(60) == 0


def test_what_a_medium_brings_is_told_and_written(
    tmp_path: Path, sender: Path, appliance: Callable[..., Outcome]
) -> None:
    node = Node(read_identity(sender))
    node.block(b'{"stream":"\x1b[2J"}')
    medium = archive(tmp_path / "medium", node, 0)
    public = sender / "gpu-01.sender.json"
    done = appliance(
        "export", "receive", tmp_path / "r", "--sender", public, "--medium", medium, "--syslog"
    )
    assert json.loads(done.err.splitlines()[0])["event"] == "gap-opened"
    assert done.out == "kept 2 that were missing\n"
    assert "\x1b" not in (tmp_path / "r/gpu-01/records.log").read_text()
    assert len((tmp_path / "r/gpu-01/records.jsonl").read_text().splitlines()) == 1


REFUSED = {
    "records from nowhere": ("send", "S", "--to", "192.0.2.1:1"),
    "no address": ("send", "S", "--to", "receiver:1", "--stdin"),
    "no digest": ("send", "S", "--to", "192.0.2.1:1", "--stdin", "--digest", "ruleset=1"),
    "no sender": ("send", ".", "--to", "192.0.2.1:1", "--stdin"),
    "packets and a medium": ("receive", "R", "--sender", "P", "--listen", "127.0.0.1:0", "--medium", "M"),
    "neither": ("receive", "R", "--sender", "P"),
    "TLS without an authority": (
        "receive",
        "R",
        "--sender",
        "P",
        "--medium",
        "M",
        "--syslog-tls",
        "192.0.2.1:1",
    ),
    "metrics of another machine": (
        *("send", "S", "--to", "192.0.2.1:1"),
        *("--metrics", "a=http://192.0.2.1:9100/metrics"),
    ),
    "scraping another machine": ("scrape", "a=http://192.0.2.1:9100/metrics", "--to", "S"),
    "a folder that is not there": ("send", "S", "--to", "192.0.2.1:1", "--folder", "checks=/nowhere"),
    "no medium": ("receive", "R", "--sender", "P", "--medium", "M"),
    "no archive": ("check", "M", "--sender", "P"),
    "no range": ("replay", "S", "1-2", "--medium", "M"),
    "nowhere to": ("replay", "S", "1/00"),
    "nothing has run": ("status", "S"),
    "a folder that is there": ("init", "S", "--name", "gpu-01"),
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, sender: Path, appliance: Callable[..., Outcome], arguments: tuple[str, ...]
) -> None:
    paths = {"S": sender, "P": sender / "gpu-01.sender.json", "R": tmp_path / "r", "M": tmp_path / "m"}
    done = appliance("export", *(paths.get(each, each) for each in arguments))
    assert done.code == 2
    assert done.err.startswith("error: ")
