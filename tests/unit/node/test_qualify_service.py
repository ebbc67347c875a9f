"""The running service and the staged copy, judged; recorded on a practice node, one thing changed."""

from __future__ import annotations

import dataclasses
import email
import io
import json
import subprocess
import sys
import threading
import wave
from array import array
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from appliance.definition.inventory import NodeEntry
from appliance.definition.partition import UNIT, Instance, Partition, Team
from appliance.node.qualification import installed, service
from appliance.node.qualification.ask import Answers, ask_model
from appliance.node.qualification.subject import Bundle

HERE = Path(__file__).parent
LIVE = (HERE / "recorded" / "service.txt").read_text(encoding="utf-8")
DIGEST = "ddaadf14f00b1321b553f5b8bdc6fab0aea4e4cfe31f4493676fee6c4458ec0d"
MODEL = f"/var/lib/appliance/staged/{DIGEST}/payload/model/tiny.gguf"
TEAMS = (Team("one", 8001, (0,), "3g.40gb"), Team("two", 8002, (0,), "3g.40gb"))
NODE = NodeEntry("gpu-01", "ssh", ip_address("10.20.0.11"), 22, ())
SHARED = dataclasses.replace(NODE, partition=Partition("h100-sxm", ((),), TEAMS))
BUNDLE = Bundle(DIGEST, MODEL, "demo")


def broken(live: service.Service, *, skipped: bool = False) -> set[str]:
    findings = {
        "active": service.judge_active(live),
        "user": service.judge_user(live),
        "model": service.judge_model_path(live, MODEL),
        "switches": service.judge_switches(live),
        "confined": service.judge_confined(live),
    }
    return {name for name, each in findings.items() if not each.kept and bool(each.reason) is skipped}


def test_the_recorded_service_keeps_every_promise() -> None:
    assert not broken(service.parse_live(LIVE))


@pytest.mark.parametrize(
    ("before", "after", "promise"),
    [
        ("ActiveState=active", "ActiveState=failed", "active"),
        ("SubState=running", "SubState=auto-restart", "active"),
        ("UnitFileState=enabled", "UnitFileState=disabled", "active"),
        ("Uid:\t990\t990\t990\t990", "Uid:\t990\t990\t0\t990", "user"),
        ("User=appliance-inference", "User=nobody", "user"),
        ("/usr/sbin/nologin", "/bin/bash", "user"),
        (f"--model\n{MODEL}", "--model\ntiny.gguf", "model"),
        (f"--model\n{MODEL}", f"--model\n{MODEL}\n--model=other/model", "model"),
        ("HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=0", "switches"),
        ("DO_NOT_TRACK=1\n", "", "switches"),
        ("=== command", "HTTPS_PROXY=http://10.0.0.1\n=== command", "switches"),
        ("=== command", "all_proxy=socks5://10.0.0.1\n=== command", "switches"),
        ("=== command", "VLLM_SERVER_DEV_MODE=1\n=== command", "switches"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000002000", "confined"),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000002000", "confined"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "confined"),
        ("Seccomp:\t2", "Seccomp:\t0", "confined"),
        ("IPAddressDeny=0.0.0.0/0 ::/0", "IPAddressDeny=0.0.0.0/0", "confined"),
        ("IPAddressAllow=::1/128 127.0.0.0/8", "IPAddressAllow=::1/128 10.0.0.0/8", "confined"),
    ],
)
def test_one_change_breaks_one_promise(before: str, after: str, promise: str) -> None:
    assert before in LIVE
    assert broken(service.parse_live(LIVE.replace(before, after))) == {promise}


def test_a_service_as_root_has_no_user_of_its_own() -> None:
    text = LIVE.replace("Uid:\t990\t990\t990\t990", "Uid:\t0\t0\t0\t0").replace(
        "User=appliance-inference", "User="
    )
    line = next(each for each in text.splitlines() if each.startswith("appliance-inference:x"))
    assert broken(service.parse_live(text.replace(line, "root:x:0:0:root:/root:/bin/bash"))) == {"user"}


def test_what_is_promised_of_a_process_that_is_not_there_is_not_run() -> None:
    stopped = LIVE.partition("=== status")[0].replace("MainPID=7272", "MainPID=0")
    stopped = stopped.replace("ActiveState=active", "ActiveState=inactive")
    live = service.parse_live(stopped)
    assert broken(live) == {"active"}
    assert broken(live, skipped=True) == {"user", "model", "switches", "confined"}
    assert broken(service.parse_live("")) == {"active"}


def test_the_role_sets_every_switch_that_is_wanted() -> None:
    """Judged here and set there: the two lists must not drift apart."""
    variables = yaml.safe_load((HERE.parents[2] / "roles/inference_server/vars/main.yml").read_text())
    switches = {each["name"]: each["value"] for each in variables["inference_server_switches"]}
    assert service.SWITCHES.items() <= switches.items()
    assert {each["name"] for each in variables["inference_server_unset"]} == service.OPENINGS


def answers(name: str = "demo", **changed: Any) -> Answers:
    said = {"choices": [{"message": {"content": "This answer."}}]}
    chat = {"status": 200, "body": said, "trouble": "", "seconds": 0.1}
    return Answers({"status": 200, "body": {"data": [{"id": name}]}}, chat | changed)


def test_an_answer_is_words_from_the_signed_model() -> None:
    assert service.judge_answer(answers(), "demo").kept
    assert not service.judge_answer(answers(), "other").kept
    assert service.judge_answer(answers(name="demo:latest"), "demo").kept, "as Ollama calls it"
    assert not service.judge_answer(answers(name="demo:7b"), "demo").kept
    assert not service.judge_answer(answers(body={"choices": [{"message": {"content": " "}}]}), "demo").kept
    assert not service.judge_answer(answers(body={"choices": []}), "demo").kept
    refused = service.judge_answer(answers(status=0, trouble="Connection refused"), "demo")
    assert (refused.kept, refused.found) == (False, "status none: Connection refused")


def transcribed(**changed: Any) -> Answers:
    said = {"status": 200, "body": {"text": " you"}, "trouble": "", "seconds": 0.4}
    return Answers({"status": 200, "body": {"data": [{"id": "w"}]}}, said | changed, "transcription")


def test_a_model_for_speech_gives_back_a_text_of_whatever_it_heard() -> None:
    assert service.judge_answer(transcribed(), "w").kept
    assert service.judge_answer(transcribed(body={"text": ""}), "w").kept
    for body in ({"text": None}, {}, None, [], {"choices": [{"message": {"content": "words"}}]}):
        assert not service.judge_answer(transcribed(body=body), "w").kept, body
    assert not service.judge_answer(transcribed(), "other").kept
    refused = service.judge_answer(transcribed(status=404, trouble="Not Found"), "w")
    assert (refused.kept, refused.found) == (False, "status 404: Not Found")
    assert "/v1/audio/transcriptions" in refused.wanted


def test_an_engine_that_is_deaf_is_found() -> None:
    """The first is what vLLM 0.32.0, healthy as ever, said to this question without its extra ``audio``."""
    said = (
        '{"error":{"message":"Invalid or unsupported audio file.","type":"BadRequestError",'
        '"param":null,"code":400}}'
    )
    deaf = service.judge_answer(transcribed(status=400, body=None, trouble=said), "w")
    assert (deaf.kept, deaf.found) == (False, f"status 400: {said}")
    for seconds, kept in ((1, True), (0, False), (30, False)):
        usage = {"type": "duration", "seconds": seconds}
        heard = service.judge_answer(transcribed(body={"text": " you", "usage": usage}), "w")
        assert heard.kept is kept
        assert f"it said of {seconds} s of sound: you" in heard.found
    for unsaid in (None, {}, {"type": "tokens"}, {"type": "duration", "seconds": "1"}, []):
        assert service.judge_answer(transcribed(body={"text": "", "usage": unsaid}), "w").kept, unsaid


class Server(BaseHTTPRequestHandler):
    """Takes a question, or a sound as multipart/form-data, as the OpenAI API has them."""

    asked: ClassVar[list[tuple[str, dict[str, bytes]]]] = []

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "w"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body)
        parts = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in (message.get_payload() if message.is_multipart() else ())
        }
        self.asked.append((self.path, parts or {"json": body}))
        self.answer({"text": "heard"} if parts else {"choices": [{"message": {"content": "said"}}]})

    def answer(self, values: object) -> None:
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


class Here:
    """Runs a script on this machine, as a connection does on a node."""

    def run(self, command: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        assert command
        return subprocess.run(
            [sys.executable, "-"], input=more["stdin"], capture_output=True, check=False, timeout=60
        )


@pytest.mark.parametrize("task", [None, "transcription"])
def test_what_the_model_is_there_for_is_what_it_is_asked(task: str | None) -> None:
    Server.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        answers = ask_model(Here(), server.server_address[1], "w", task)  # type: ignore[arg-type]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert service.judge_answer(answers, "w").kept
    ((path, parts),) = Server.asked
    assert path == answers.path
    if task is None:
        assert answers.content == "said"
        assert json.loads(parts["json"])["model"] == "w"
        return
    assert answers.content == "heard"
    assert (parts["model"], parts["response_format"]) == (b"w", b"json")
    assert parts["max_completion_tokens"] == b"64"
    with wave.open(io.BytesIO(parts["file"])) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16000)
        assert sound.getnframes() == 16000
        assert max(array("h", sound.readframes(16000))) == 8000


def test_a_second_model_on_offer_is_found() -> None:
    two = dataclasses.replace(answers(), models={"body": {"data": [{"id": "demo"}, {"id": "x"}]}})
    assert not service.judge_answer(two, "demo").kept


STAGED = f"{BUNDLE.staged}.complete\n{DIGEST}  {BUNDLE.staged}/trust/SHA256SUMS\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (STAGED, "complete, with the verified digest"),
        (STAGED.partition("\n")[2], "not marked complete"),
        (STAGED.replace(f"{DIGEST}  ", f"{'0' * 64}  "), f"trust/SHA256SUMS is {'0' * 64}"),
        (STAGED.partition("\n")[0], "trust/SHA256SUMS is not there"),
    ],
)
def test_the_staged_copy_is_the_verified_one(text: str, found: str) -> None:
    finding = installed.judge_staged(text, BUNDLE)
    assert finding.found == found
    assert finding.kept is (text == STAGED)


def test_nobody_can_write_into_the_staged_copy() -> None:
    assert installed.judge_read_only("FILES=166\n").kept
    assert installed.judge_read_only("/x/manifest.json\nFILES=166\n").found == "/x/manifest.json"
    assert not installed.judge_read_only("FILES=0\n").kept


def test_everything_is_enabled() -> None:
    text = (HERE / "recorded" / "enabled.txt").read_text(encoding="utf-8")
    assert installed.judge_enabled(text, NODE).kept
    for unit in (UNIT, "ufw.service", "systemd-networkd.service", "ssh.service"):
        assert not installed.judge_enabled(
            text.replace(f"{unit} enabled", f"{unit} disabled"), NODE
        ).kept, unit
    by_socket = text.replace("ssh.service enabled", "ssh.service disabled").replace(
        "ssh.socket disabled", "ssh.socket enabled"
    )
    assert installed.judge_enabled(by_socket, NODE).kept


def test_where_teams_are_served_their_units_and_the_one_that_cuts_start_with_the_node() -> None:
    text = (HERE / "recorded" / "enabled.txt").read_text(encoding="utf-8")
    found = installed.judge_enabled(text, SHARED)
    assert found.found.splitlines() == [
        "appliance-inference-one.service: not there",
        "appliance-inference-two.service: not there",
        "appliance-gpu-partition.service: not there",
    ]
    more = "".join(f"{line.partition(':')[0]} enabled\n" for line in found.found.splitlines())
    assert installed.judge_enabled(text + more, SHARED).kept


def two_services() -> str:
    """The recorded service, as two teams have it."""
    one, two = (LIVE.replace(UNIT, team.unit) for team in TEAMS)
    return f"##### {UNIT}\nLoadState=not-found\n##### {TEAMS[0].unit}\n{one}##### {TEAMS[1].unit}\n{two}"


def test_every_teams_server_is_judged_and_one_that_is_broken_is_named() -> None:
    wanted = [Instance(team.unit, team.port, team.name) for team in TEAMS]

    def judged(text: str) -> service.Finding:
        services = service.parse_services(text)
        return service.judge_each(wanted, services, lambda live, _one: service.judge_active(live))

    assert judged(two_services()).kept
    stopped = judged("ActiveState=failed".join(two_services().rsplit("ActiveState=active", 1)))
    assert (stopped.kept, stopped.found.partition(":")[0]) == (False, TEAMS[1].unit)
    assert "ActiveState=," in judged(f"##### {TEAMS[0].unit}\n{LIVE}").found, "no unit for the other"


def test_a_server_that_nobody_asks_for_must_not_run() -> None:
    def judged(text: str) -> service.Finding:
        one = [Instance(UNIT, 8000)]
        return service.judge_each(
            one, service.parse_services(text), lambda live, _: service.judge_active(live)
        )

    assert judged(LIVE).kept
    found = judged(f"##### {UNIT}\n{LIVE}##### appliance-inference-old.service\n{LIVE}")
    assert (found.kept, found.found) == (False, "appliance-inference-old.service: runs")


def test_a_change_that_waits_to_be_undone_is_found() -> None:
    assert installed.judge_confirmed("ready\n").kept
    assert not installed.judge_confirmed("ready\npending\n").kept
    assert not installed.judge_confirmed("").kept
