"""Speech on a booted node with no network: a generated Whisper, by the same role and unit as text.

``make test-vllm``; what it is served by, and how that gets there, ``conftest`` says.  What the model writes
means nothing, but it follows from what it hears; so the way from a sound to its text can be seen, and
nothing of how well a Whisper understands.

The tests build on each other: one node is installed once and then looked at.
"""

from __future__ import annotations

import array
import io
import math
import wave
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.node.client import API, send
from tests.node.vllm.promises import UNIT, assert_apart, assert_promises, main_pid, report_of
from tests.node.vllm.tiny_whisper import WEIGHTS, WRITTEN, write_tiny_whisper

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.archive, pytest.mark.vllm]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, new_vllm_bundle: Any) -> Path:
    """The generated Whisper's, with what the engine needs to read sound."""
    model = tmp_path_factory.mktemp("station") / "tiny"
    names = write_tiny_whisper(model)
    served = {"name": "tiny", "task": "transcription", "context": WRITTEN, "sequences": 4}
    more = {"file": f"tiny/{WEIGHTS}", "precision": "fp32", "eager": "true"}
    # The library as in bundles/h100-whisper.yaml: on some indexes the wheel of soundfile is without it.
    made: Path = new_vllm_bundle(model, names, served | more, extra="[audio]", library="libsndfile1")
    return made


def sound(*pitches: int, seconds: float = 1, rate: int = 16000, channels: int = 1) -> bytes:
    """A WAV file of 16 bits with tones of these frequencies (Hz), on all channels."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(rate)
        for at in range(int(seconds * rate)):
            level = sum(math.sin(math.tau * pitch * at / rate) for pitch in pitches) / max(1, len(pitches))
            written.writeframesraw(array.array("h", [int(8000 * level)] * channels).tobytes())
    return file.getvalue()


def dictation(data: bytes | None, **fields: str) -> requests.PreparedRequest:
    """What a client sends who wants a text of this file."""
    said = {"model": "tiny", "language": "en", "temperature": "0", "max_completion_tokens": "64", **fields}
    files = {"file": ("dictation.wav", data, "audio/wav")} if data is not None else {"other": b"x"}
    return requests.Request("POST", f"{API}/audio/transcriptions", data=said, files=files).prepare()


def test_every_promise_is_kept_with_a_model_for_speech(installed: Any) -> None:
    assert_promises(installed)
    answered = report_of(installed)["inference.answers"]
    assert "/v1/audio/transcriptions" in answered["wanted"]
    assert "of 1 s of sound" in answered["found"]


def test_its_files_were_compared_before_it_was_given_them(installed: Any) -> None:
    log = installed.lab.node.run(f"journalctl -u {UNIT} -o cat").stdout
    assert "6 files, " in log
    assert log.index("6 files, ") < log.index("vLLM")


def test_a_client_gets_a_text_that_follows_from_the_sound(installed: Any) -> None:
    """At another rate and in stereo too: all is used that turns a file into what the model hears."""
    stereo = sound(440, seconds=2.5, rate=44100, channels=2)
    answers = send(
        installed.lab.node, *(dictation(data) for data in (sound(440), sound(440), sound(3000), stereo))
    )
    assert [status for status, _ in answers] == [200] * 4
    first, again, other, long = (body for _, body in answers)
    assert first["text"]
    assert first["text"] == again["text"]
    assert first["text"] != other["text"]
    assert [body["usage"]["seconds"] for body in (first, other, long)] == [1, 1, 3]


def test_what_is_no_sound_is_refused_and_the_service_goes_on(installed: Any) -> None:
    node = installed.lab.node
    before = main_pid(node)
    wrong = {
        "empty": dictation(b""),
        "words": dictation(b"the patient has no complaints\n"),
        "cut": dictation(sound(440)[:20]),
        "rubbish": dictation(b"RIFF" + b"\xff" * 500),
        "nothing": dictation(None),
        "language": dictation(sound(440), language="xx"),
        "model": dictation(sound(440), model="other"),
        "prompt longer than the context": dictation(sound(440), prompt="word " * WRITTEN),
    }
    *refused, good = send(node, *wrong.values(), dictation(sound(440)))
    found = {name: status for name, (status, _) in zip(wrong, refused, strict=True)}
    assert found == dict.fromkeys(wrong, 400) | {"model": 404}
    assert all(body["error"]["message"] for _, body in refused)
    assert good[0] == 200
    assert main_pid(node) == before
    assert node.run(f"systemctl show --property NRestarts --value {UNIT}").stdout.strip() == "0"


def test_a_model_for_speech_is_held_as_tight_as_one_for_text(installed: Any) -> None:
    assert_apart(installed.lab.node)
