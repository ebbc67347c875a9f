"""Ask the model what it is there for, on the node, over loopback: the standard library only, no relay.

A model that writes down speech is given a second of sound.  What it makes of a tone says nothing about
dictation, and that may well be nothing; that it takes sound and gives back text is what is asked.  An
engine that says how much it heard (vLLM does, in ``usage``) must have heard that second: it reads the file
by libraries of an extra, without which it is in good health and deaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.node.probe import run_script

if TYPE_CHECKING:
    from appliance.node.probe import Runs

HEARD: Final = 1  # seconds of sound that it is given

#: Runs on the node.  A proxy in somebody's environment must not carry the question away.
SCRIPT: Final = """
import array, io, json, math, time, urllib.error, urllib.request, wave

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def ask(url, body=None, kind="application/json"):
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    started = time.monotonic()
    answer = {"status": 0, "body": None, "trouble": ""}
    try:
        with opener.open(request, timeout=120) as response:
            answer["status"] = response.status
            answer["body"] = json.loads(response.read(1 << 20))
    except urllib.error.HTTPError as error:
        answer["status"] = error.code
        answer["trouble"] = error.read(500).decode(errors="replace")
    except (OSError, ValueError) as error:
        answer["trouble"] = str(error)
    answer["seconds"] = round(time.monotonic() - started, 3)
    return answer

def tone(rate=16000):
    "One second of 440 Hz as a WAV file of 16 bits, one channel."
    file = io.BytesIO()
    samples = array.array("h", (int(8000 * math.sin(math.tau * 440 * at / rate)) for at in range(rate)))
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.tobytes())
    return file.getvalue()

def form(fields, sound):
    "The parts of a multipart/form-data body (RFC 7578), and its type."
    mark = "appliance-" + "7" * 24
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append(('name="file"; filename="tone.wav"\\r\\nContent-Type: audio/wav', sound))
    body = b"".join(
        f"--{mark}\\r\\nContent-Disposition: form-data; {head}\\r\\n\\r\\n".encode() + value + b"\\r\\n"
        for head, value in parts
    )
    return body + f"--{mark}--\\r\\n".encode(), f"multipart/form-data; boundary={mark}"

def main(request):
    base = f"http://127.0.0.1:{request['port']}/v1"
    models = ask(base + "/models")
    name = request["model"]
    if request["task"] == "transcription":
        fields = {"model": name, "response_format": "json", "temperature": "0"}
        fields["max_completion_tokens"] = "64"  # vLLM's own: of a tone, some write until nothing more fits
        said = ask(base + "/audio/transcriptions", *form(fields, tone()))
    else:
        said = ask(base + "/chat/completions", json.dumps({
            "model": name, "max_tokens": 64, "temperature": 0,
            "messages": [{"role": "user", "content": "Where was this answer computed?"}],
        }).encode())
    return {"models": models, "said": said}
"""


@dataclass(frozen=True)
class Answers:
    """``/v1/models`` and what the model was asked, each ``{status, body, trouble, seconds}``."""

    models: dict[str, Any]
    said: dict[str, Any]
    task: str | None = None

    @property
    def path(self) -> str:
        """Where the model was asked."""
        return f"/v1/{'audio/transcriptions' if self.task else 'chat/completions'}"

    @property
    def names(self) -> list[str]:
        """The model names the server offers."""
        listed = (self.models["body"] or {}).get("data") or []
        return sorted(str(each.get("id")) for each in listed if isinstance(each, dict))

    @property
    def content(self) -> str | None:
        """What the model said; None if that was no proper answer."""
        body = self.said["body"]
        try:
            text = body["text"] if self.task else body["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            return None
        return text if isinstance(text, str) else None

    @property
    def heard(self) -> float | None:
        """How many seconds of sound it says that it was given; None where it does not say."""
        body = self.said["body"]
        try:
            usage = body["usage"]
            seconds = usage["seconds"] if self.task and usage["type"] == "duration" else None
        except (KeyError, TypeError):
            return None
        return seconds if isinstance(seconds, int | float) else None

    @property
    def wanted(self) -> str:
        """What has to be in the answer, in words."""
        return f"a text of {HEARD} s of sound" if self.task else "words in it"

    @property
    def proper(self) -> bool:
        """Whether it is an answer: words in a chat; of a tone a text, which may well be empty."""
        if not self.task:
            return bool(self.content and self.content.strip())
        return self.content is not None and self.heard in {None, HEARD}


def ask_model(connection: Runs, port: int, model: str, task: str | None = None) -> Answers:
    """Ask the server on the node's loopback for its models, and ``model`` what it is there for."""
    request: dict[str, object] = {"port": port, "model": model, "task": task}
    values = run_script(connection, SCRIPT, request, timeout=180)
    return Answers(values["models"], values["said"], task)
