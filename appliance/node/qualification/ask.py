"""Ask the model a question, on the node, over loopback: the standard library only, no relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.node.probe import run_script

if TYPE_CHECKING:
    from appliance.node.probe import Runs

#: Runs on the node.  A proxy in somebody's environment must not carry the question away.
SCRIPT: Final = """
import json, time, urllib.error, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def ask(url, question=None):
    body = json.dumps(question).encode() if question else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
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

def main(request):
    base = f"http://127.0.0.1:{request['port']}/v1"
    models = ask(base + "/models")
    name = request["model"]
    chat = ask(base + "/chat/completions", {
        "model": name, "max_tokens": 64, "temperature": 0,
        "messages": [{"role": "user", "content": "Where was this answer computed?"}],
    })
    return {"models": models, "chat": chat}
"""


@dataclass(frozen=True)
class Answers:
    """``/v1/models`` and ``/v1/chat/completions``, each ``{status, body, trouble, seconds}``."""

    models: dict[str, Any]
    chat: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The model names the server offers."""
        listed = (self.models["body"] or {}).get("data") or []
        return sorted(str(each.get("id")) for each in listed if isinstance(each, dict))

    @property
    def content(self) -> str:
        """What the model said; "" if there was no proper answer."""
        try:
            return str(self.chat["body"]["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            return ""


def ask_model(connection: Runs, port: int, model: str) -> Answers:
    """Ask the server on the node's loopback for its models, and ``model`` a question."""
    values = run_script(connection, SCRIPT, {"port": port, "model": model}, timeout=180)
    return Answers(values["models"], values["chat"])
