"""Sources behind a site's own certificate authority: trusted when the station says so, and not before."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from huggingface_hub import close_session

from appliance.definition.components import HuggingFace
from appliance.errors import Location, SourceUnreachable
from appliance.sources.http_download import HttpDownloader
from appliance.sources.huggingface import HuggingFaceRepository
from appliance.sources.station import HuggingFaceSettings, Settings

from .hub_server import HubServer, Repository, safetensors
from .loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.names import Target
    from appliance.sources.station import Station

NAME = "example-org/Example-7B"


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "authority.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = tmp_path / "key.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return context, path


@pytest.fixture(autouse=True)
def _fresh_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """huggingface_hub keeps its connections, and what they trust, for the whole process."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    yield
    close_session()


def test_a_site_of_its_own_authority(
    authority: tuple[ssl.SSLContext, Path],
    new_station: Callable[..., Station],
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One variable for both: descriptions come by huggingface_hub, files by our own downloads."""
    context, path = authority
    with serving(Loopback(), context) as web, serving(Loopback(), context) as storage:
        hub = HubServer(web, storage)
        hub.repositories[NAME] = Repository({"config.json": b"{}", "model.safetensors": safetensors()})
        station = new_station("store", Settings(huggingface=HuggingFaceSettings(endpoint=web.address)))
        source = HuggingFaceRepository(target, station)
        asked = HuggingFace(kind="huggingface", repository=NAME, revision="main")

        def where(_: object) -> Location:
            return Location("demo.yaml", 1, 1)

        with pytest.raises(SourceUnreachable) as caught:
            source.resolve(asked, where)
        assert "certificate is not trusted" in (caught.value.found or "")
        with pytest.raises(SourceUnreachable) as caught:
            HttpDownloader(station, "the example source").read(web.address, limit=10)
        assert "certificate is not trusted" in (caught.value.found or "")
        assert web.asked == []
        assert station.stop.pauses == []  # type: ignore[attr-defined]  # conftest.Unhurried

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        close_session()
        artefacts = source.resolve(asked, where)
        source.fetch(artefacts)
        assert source.missing(artefacts) == []
