"""To a real server that enforces Object Lock: each record once under one name, and nobody takes it back."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from appliance.errors import ExportSinkUnready, ToolMissing
from appliance.export.sinks import object_feed as object_feed_module
from appliance.export.sinks.object_feed import ObjectFeed
from appliance.export.sinks.objects import LogObject
from appliance.export.sinks.s3 import S3Store
from appliance.export.sinks.settings import S3Settings
from tests.unit.export.servers import ROOT, WRITER, free_ports
from tests.unit.export.test_feed import Desk, Killed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.export.servers import ObjectServer

DAYS = 3


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.archive.close()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Each test puts its objects elsewhere: what is locked stays."""
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:12] + "/"


def settings(objects: ObjectServer, **others: object) -> S3Settings:
    values: dict[str, object] = {
        "format": 1,
        "endpoint": objects.endpoint,
        "bucket": "logs",
        "access_key": WRITER[0],
        "secret_key_file": "-",
        "retention": {"mode": "COMPLIANCE", "days": DAYS},
    }
    return S3Settings.model_validate(values | others)


@pytest.fixture(scope="module")
def usual(objects: ObjectServer) -> S3Store:
    """What writes as it should; after a fault much time passes at once."""
    times = count(step=100)
    return S3Store(settings(objects), WRITER[1], clock=lambda: float(next(times)))


def store(objects: ObjectServer, **others: object) -> S3Store:
    return S3Store(settings(objects, **others), WRITER[1])


def feed(place: Desk, made: S3Store, prefix: str) -> ObjectFeed:
    return ObjectFeed(place.archive, made, prefix, place.folder / "s3.cursor", 60.0)


def an_object(name: str, body: bytes = b"{}\n") -> LogObject:
    return LogObject(name, body, hashlib.sha256(body).digest(), 1, {"node": "gpu-01"})


def sequences(objects: ObjectServer, prefix: str) -> list[int]:
    lines = [json.loads(each) for body in objects.bodies("logs", prefix) for each in body.splitlines()]
    return [each["sequence"] for each in lines if "sequence" in each]


def code_of(act: Any, **arguments: object) -> str:
    try:
        act(**arguments)
    except ClientError as fault:
        return str(fault.response["Error"]["Code"])
    return "done"


def test_objects_are_named_for_their_blocks_and_locked_against_everybody(
    place: Desk, objects: ObjectServer, usual: S3Store, prefix: str
) -> None:
    place.receive(0, 6)
    made = feed(place, usual, prefix)
    assert made.finish() == 16
    place.receive(6, 13)
    assert made.finish() == 21
    names = objects.versions("logs", prefix)
    assert names == [
        f"{prefix}gpu-01/0000000001/00000000000000000000-00000000000000000005.jsonl",
        f"{prefix}gpu-01/0000000001/00000000000000000006-00000000000000000012.jsonl",
    ]
    assert sequences(objects, prefix) == list(range(1, 37))
    root, writer = objects.client(ROOT), objects.client(WRITER)
    there = root.head_object(Bucket="logs", Key=names[0], ChecksumMode="ENABLED")
    assert there["ObjectLockMode"] == "COMPLIANCE"
    assert there["ObjectLockRetainUntilDate"] - there["LastModified"] > dt.timedelta(days=DAYS, hours=-1)
    assert there["Metadata"]["first-sequence"] == "1"
    assert there["Metadata"]["last-sequence"] == "15"
    body = next(objects.bodies("logs", prefix))
    assert there["Metadata"]["sha256"] == hashlib.sha256(body).hexdigest()
    version = {"Bucket": "logs", "Key": names[0], "VersionId": there["VersionId"]}
    sooner = {"Mode": "COMPLIANCE", "RetainUntilDate": there["LastModified"] + dt.timedelta(seconds=5)}
    for who in (root, writer):
        assert code_of(who.delete_object, **version) == "AccessDenied"
        assert code_of(who.delete_object, **version, BypassGovernanceRetention=True) == "AccessDenied"
        assert code_of(who.put_object_retention, **version, Retention=sooner) == "AccessDenied"
    root.put_object(Bucket="logs", Key=names[0], Body=b"something else")
    assert root.get_object(**version)["Body"].read() == body


def test_governance_can_be_lifted_by_whoever_may(objects: ObjectServer, prefix: str) -> None:
    governed = store(objects, retention={"mode": "GOVERNANCE", "days": 1})
    governed.put(an_object(f"{prefix}one"))
    root, writer = objects.client(ROOT), objects.client(WRITER)
    version = {"Bucket": "logs", "Key": f"{prefix}one"}
    version["VersionId"] = root.head_object(**version)["VersionId"]
    assert code_of(writer.delete_object, **version, BypassGovernanceRetention=True) == "AccessDenied"
    assert code_of(root.delete_object, **version) == "AccessDenied"
    assert code_of(root.delete_object, **version, BypassGovernanceRetention=True) == "done"


def test_killed_at_any_step_each_record_is_there_once_under_one_name(
    tmp_path: Path, objects: ObjectServer, usual: S3Store, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps: before and after each object is put, and before and after each writing of the cursor."""
    real_write, real_put = object_feed_module.write_cursor, usual.put
    step, ended = 0, False
    while not ended:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        place, mine = Desk(folder), f"{prefix}{step}/"
        place.receive(0, 3)
        place.receive(5, 8)
        steps = iter(range(1, 1 << 30))

        def counted(act: Any, *given: object, step: int = step, steps: Iterator[int] = steps) -> None:
            if next(steps) == step:
                raise Killed
            act(*given)
            if next(steps) == step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(usual, "put", lambda *given, act=counted: act(real_put, *given))
            patch.setattr(
                object_feed_module, "write_cursor", lambda *given, act=counted: act(real_write, *given)
            )
            try:
                feed(place, usual, mine).finish()
                ended = True
            except Killed:
                pass
        place.receive(3, 5)  # what comes later is no part of a piece that was settled
        place.receive(8, 13)
        last = feed(place, usual, mine)
        while last.finish():
            pass
        names = objects.versions("logs", mine)
        assert len(names) == len(set(names)), f"killed at step {step}"
        assert sorted(sequences(objects, mine)) == list(range(1, 37)), f"killed at step {step}"
        place.archive.close()
    assert step > 9  # the first cursor, the piece, two objects, the cursor: two steps of each


def test_the_same_object_again_is_found_and_another_under_its_name_is_not_believed(
    objects: ObjectServer, usual: S3Store, prefix: str
) -> None:
    usual.put(an_object(f"{prefix}one"))
    usual.put(an_object(f"{prefix}one"))
    assert objects.versions("logs", prefix) == [f"{prefix}one"]
    with pytest.raises(ExportSinkUnready, match="other bytes are there under this name: 3,"):
        usual.put(an_object(f"{prefix}one", b"{ }\n"))
    assert objects.versions("logs", prefix) == [f"{prefix}one"]


def test_an_object_that_somebody_left_there_without_a_lock_is_not_believed(
    objects: ObjectServer, usual: S3Store, prefix: str
) -> None:
    mine = an_object(f"{prefix}one")
    objects.client(ROOT).put_object(
        Bucket="logs", Key=mine.name, Body=mine.body, ChecksumAlgorithm="SHA256"
    )
    with pytest.raises(ExportSinkUnready, match="not locked as it has to be: None"):
        usual.put(mine)


def test_a_shorter_or_weaker_lock_than_was_asked_for_is_not_believed(
    objects: ObjectServer, usual: S3Store, prefix: str
) -> None:
    store(objects, retention={"mode": "GOVERNANCE", "days": 9}).put(an_object(f"{prefix}weak"))
    store(objects, retention={"mode": "COMPLIANCE", "days": 1}).put(an_object(f"{prefix}short"))
    for name in ("weak", "short"):
        with pytest.raises(ExportSinkUnready, match="not locked as it has to be"):
            usual.put(an_object(f"{prefix}{name}"))


def test_what_is_altered_on_the_way_is_refused_by_the_server(
    objects: ObjectServer, usual: S3Store, prefix: str
) -> None:
    altered = an_object(f"{prefix}one")._replace(sha256=hashlib.sha256(b"as it was").digest())
    with pytest.raises(ExportSinkUnready, match="BadDigest"):
        usual.put(altered)
    assert objects.versions("logs", prefix) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"bucket": "plain"}, "InvalidRequest"),  # it has no Object Lock
        ({"bucket": "nowhere"}, "AccessDenied"),
        ({"secret": "another"}, "SignatureDoesNotMatch"),
        ({"access_key": "NOBODY"}, "InvalidAccessKeyId"),
    ],
)
def test_a_bucket_that_refuses_leaves_everything_where_it_is(
    place: Desk, objects: ObjectServer, wrong: dict[str, str], why: str
) -> None:
    secret = wrong.get("secret", WRITER[1])
    others = {name: each for name, each in wrong.items() if name != "secret"}
    place.receive(0, 6)
    made = feed(place, S3Store(settings(objects, **others), secret), f"{why}/")
    with pytest.raises(ExportSinkUnready, match=why) as refused:
        made.finish()
    assert secret not in str(refused.value)
    assert json.loads((place.folder / "s3.cursor").read_bytes())["offset"] == 0
    made.store = S3Store(settings(objects), WRITER[1])
    assert made.finish() == 16
    assert sequences(objects, f"{why}/") == list(range(1, 16))


def test_a_server_that_is_away_is_not_waited_for_by_every_node(objects: ObjectServer) -> None:
    (port,) = free_ports(1)
    now = [0.0]
    made = S3Store(settings(objects, endpoint=f"http://127.0.0.1:{port}"), WRITER[1], clock=lambda: now[0])
    with pytest.raises(ExportSinkUnready, match="Could not connect") as first:
        made.put(an_object("one"))
    with pytest.raises(ExportSinkUnready) as second:
        made.put(an_object("two"))
    assert str(second.value) == str(first.value)
    with pytest.raises(ExportSinkUnready):
        made.ready()
    now[0] += 6.0
    with pytest.raises(ExportSinkUnready) as third:
        made.put(an_object("two"))
    assert third.value is not first.value


def test_without_the_client_it_is_said_which_extra_brings_it() -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from appliance.errors import ToolMissing\n"
        "from appliance.export.sinks.s3 import S3Store\n"
        "try: S3Store(None, '')\n"
        "except ToolMissing as fault: print(fault.exit_code, fault.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == f"{ToolMissing.exit_code} install the program with its extra: pip install 'appliance[s3]'\n"
    )
