"""Refusals, redirects, tokens and proxies."""

from __future__ import annotations

import pytest

from appliance.errors import SourceUnreachable
from appliance.sources.http_download import HttpDownloader, HttpRefused
from tests.unit.sources.http.fetching import DATA, MIB, Fetch
from tests.unit.sources.loopback import Loopback, Reply, cut, header, serving, status


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 451])
def test_a_refusal_is_told_at_once(fetch: Fetch, web: Loopback, code: int) -> None:
    web.faults["/big"].append(status(code, X_Error_Code="Gone"))
    with pytest.raises(HttpRefused) as caught:
        fetch.locked()
    assert caught.value.status == code
    assert caught.value.headers["X-Error-Code"] == "Gone"
    assert len(web.asked) == 1


def test_redirects_in_circles_end(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].extend([status(302, Location="/big")] * 50)
    with pytest.raises(SourceUnreachable) as caught:
        fetch.locked()
    assert caught.value.found == "127.0.0.1: TooManyRedirects"
    assert len(web.asked) == 11


class Token:
    """Access by a token, which is renewed once."""

    def __init__(self) -> None:
        self.token, self.renewed = "secret-1", 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self, _: object) -> bool:
        self.renewed += 1
        self.token = f"secret-{self.renewed + 1}"
        return self.renewed == 1


def test_the_token_stays_with_the_server_it_is_for(fetch: Fetch, web: Loopback) -> None:
    """Storage behind a hub is another host; it gets the range, and nothing else."""
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    with serving(Loopback(files={"/blob": DATA})) as storage:
        web.faults["/big"].extend([status(302, Location=f"{storage.address}/blob")] * 2)
        storage.faults["/blob"].append(cut(MIB))
        assert fetch.locked() == DATA
        assert [asked.headers["authorization"] for asked in web.asked] == ["Bearer secret-1"] * 2
        assert ["authorization" in asked.headers for asked in storage.asked] == [False, False]
        assert storage.ranges("/blob") == [None, f"bytes={MIB}-"]


def test_a_token_that_ran_out_is_renewed_once(fetch: Fetch, web: Loopback) -> None:
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    web.faults["/big"].extend([cut(MIB), status(401)])
    assert fetch.locked() == DATA
    assert [asked.headers["authorization"] for asked in web.asked][-1] == "Bearer secret-2"
    web.faults["/small"].extend([status(401)])
    with pytest.raises(HttpRefused):
        fetch.unknown("/small")


def test_a_netrc_file_does_not_replace_the_token(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = fetch.station.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    assert fetch.unknown("/small") == DATA[:1000]
    assert web.asked[0].headers["authorization"] == "Bearer secret-1"


def test_a_proxy_of_the_environment_is_used(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Loopback(pages=lambda _: Reply(body=b"by proxy"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert fetch.unknown("/small") == b"by proxy"
    assert web.asked == []


def test_an_encoded_answer_is_refused_since_its_parts_could_not_be_joined(
    fetch: Fetch, web: Loopback
) -> None:
    web.faults["/big"].append(header("Content-Encoding", "gzip"))
    with pytest.raises(SourceUnreachable, match="does not answer") as caught:
        fetch.locked()
    assert "encoded" in caught.value.found
    assert web.asked[0].headers["accept-encoding"] == "identity"


def test_nobody_there(fetch: Fetch, web: Loopback) -> None:
    web.address = "http://somebody:secret@127.0.0.1:9"
    with pytest.raises(SourceUnreachable) as caught:
        fetch.locked()
    assert caught.value.found == "127.0.0.1: ConnectionError"
    assert "secret" not in str(caught.value.as_dict())
    assert fetch.pauses == [1.0, 2.0, 4.0, 8.0]
