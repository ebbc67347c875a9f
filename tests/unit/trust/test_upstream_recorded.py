r"""Signatures that model-signing 1.1.1 wrote (with pyopenssl 26.4), and what is said of them here.

How ``recorded/`` was made, in an empty folder, with the package in an environment of its own
(scripts/install-bench.sh makes one):

    mkdir -p model/weights model/.git
    printf '{}\n' > model/config.json; printf 'weights\n' > model/weights/part-1.safetensors
    printf 'words\n' > model/README.md; printf '*.x lfs\n' > model/.gitattributes
    for curve in P-256 P-384 P-521; do
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$curve -out $curve.key
        openssl pkey -in $curve.key -pubout -out $curve.pem
        model_signing sign key model --private_key $curve.key --signature model/model.sig
        mv model/model.sig $curve.sig
    done
    model_signing sign key model --private_key P-256.key --signature model/model.sig \
        --ignore-paths model/README.md
    mv model/model.sig ignoring.sig
    model_signing sign key model/config.json --private_key P-256.key --signature one-file.sig
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout ca.key -days 3650 \
        -out authority.pem -subj /CN=Authority -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout signer.key \
        -out signer.csr -subj /CN=Signer
    printf 'keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n' > signer.ext
    openssl x509 -req -in signer.csr -CA authority.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile signer.ext -out signer.pem
    model_signing sign certificate model --private_key signer.key --signing_certificate signer.pem \
        --signature model/model.sig --certificate_chain authority.pem
    mv model/model.sig certificate.sig

and for shards.sig and blake3.sig, in Python, with ``model_signing.hashing.Config()`` and its methods
``use_shard_serialization()`` and ``use_file_serialization(hashing_algorithm="blake3")`` as ``hashing``:

    signing.Config().use_elliptic_key_signer(private_key="P-256.key").set_hashing_config(hashing).sign(…)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import UpstreamSignatureInvalid
from appliance.trust.upstream_certificates import parse_authority_pem
from appliance.trust.upstream_claim import Anchor, Judged, judge, judge_again, origin_of
from appliance.trust.upstream_keys import parse_pem
from appliance.trust.upstream_statement import Coverage

from .model_makers import digests

RECORDED = Path(__file__).with_name("recorded")
MODEL = {"config.json": b"{}\n", "weights/part-1.safetensors": b"weights\n", "README.md": b"words\n"}


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def anchor(name: str) -> Anchor:
    return (parse_authority_pem if name == "authority" else parse_pem)(recorded(f"{name}.pem"))


def found(signature: str, by: str) -> Judged:
    return judge(recorded(f"{signature}.sig"), anchor(by), digests(MODEL).items(), "model.sig")


@pytest.mark.parametrize(
    ("signature", "by"),
    [("P-256", "P-256"), ("P-384", "P-384"), ("P-521", "P-521"), ("certificate", "authority")],
)
def test_what_the_tool_signed_holds_and_holds_again_by_its_origin(signature: str, by: str) -> None:
    judged = found(signature, by)
    assert judged.coverage == Coverage(3)
    assert judged.unchecked is None
    origin = origin_of(judged, anchor(by))
    assert all(len(text) <= 4096 for text in origin.values())
    again = judge_again(recorded(f"{signature}.sig"), origin, digests(MODEL).items(), "model.sig")
    assert again == judged


def test_what_its_maker_left_out_of_account_is_named() -> None:
    assert found("ignoring", "P-256").coverage == Coverage(2, uncovered=("README.md",))


@pytest.mark.parametrize(
    ("signature", "by", "message"),
    [
        ("P-256", "P-384", "another key than the one that was named"),
        ("P-256", "authority", "not signed by a certificate"),
        ("certificate", "P-256", "not signed by a key"),
        ("shards", "P-256", "shards"),
        ("blake3", "P-256", "of a kind that no manifest holds"),
        ("one-file", "P-256", "no path within the model's folder"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_name(signature: str, by: str, message: str) -> None:
    with pytest.raises(UpstreamSignatureInvalid, match=message):
        found(signature, by)


@pytest.mark.parametrize(
    ("signature", "why"),
    [("P-256", "no key was named"), ("certificate", "no authority was named"), ("shards", "no key")],
)
def test_without_a_key_it_is_called_unchecked(signature: str, why: str) -> None:
    judged = judge(recorded(f"{signature}.sig"), None, (), "model.sig")
    assert judged.signed_by is None
    assert judged.coverage is None
    assert judged.unchecked is not None
    assert why in judged.unchecked
    assert origin_of(judged, None) == {"signature": judged.method}
