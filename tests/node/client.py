"""Requests as a client makes them, sent on the node: its loopback is the only place they are heard."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import requests

API: Final = "http://127.0.0.1:8000/v1"

#: Sends requests that were prepared elsewhere, one after another; prints status and body of each answer.
_SEND: Final = """
import base64, json, urllib.error, urllib.request
answers = []
for url, headers, body in json.loads(base64.b64decode(PREPARED)):
    request = urllib.request.Request(url, base64.b64decode(body), headers)
    try:
        with urllib.request.urlopen(request, timeout=200) as answer:
            answers.append([answer.status, json.load(answer)])
    except urllib.error.HTTPError as refused:
        answers.append([refused.code, json.load(refused)])
print(json.dumps(answers))
"""


def send(node: Any, *prepared: requests.PreparedRequest) -> list[tuple[int, Any]]:
    """Status and body of each answer."""
    wanted = []
    for each in prepared:
        body = each.body.encode() if isinstance(each.body, str) else each.body
        assert isinstance(body, bytes)
        wanted.append((each.url, dict(each.headers), base64.b64encode(body).decode()))
    text = base64.b64encode(json.dumps(wanted).encode()).decode()
    printed = node.run("python3 -", input=_SEND.replace("PREPARED", repr(text)), timeout=900).stdout
    return [(status, body) for status, body in json.loads(printed)]


def too_long(model: str, context: int) -> dict[str, requests.PreparedRequest]:
    """Questions of more bytes than so many, in each way there is; of a model whose tokens are bytes."""
    word = {"role": "user", "content": "word " * (context // 80)}
    bodies: dict[str, dict[str, Any]] = {
        "message": {"messages": [{"role": "user", "content": "word " * (context // 4)}]},
        "conversation": {"messages": [word, {**word, "role": "assistant"}] * 10 + [word]},
        "prompt": {"prompt": "word " * (context // 4)},
    }
    return {
        name: requests.Request(
            "POST",
            f"{API}/{'chat/completions' if 'messages' in body else 'completions'}",
            json={"model": model, "max_tokens": 4, **body},
        ).prepare()
        for name, body in bodies.items()
    }
