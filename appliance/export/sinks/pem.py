"""Certificates and keys that a sink is given as files: read at the start, before anybody needs them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from appliance.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path


def client_context(
    authority: Path | str, certificate: Path | str | None = None, key: Path | str | None = None
) -> ssl.SSLContext:
    """What a client of TLS 1.2 or newer believes and shows.

    Args:
        authority: PEM file of who vouches for the other side; nobody else does.
        certificate: PEM file of who we are, if the other side asks.
        key: PEM file of its key; None: it is in the same one.

    Raises:
        Usage: one is not there, or holds something else, or a key that wants a passphrase.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it compares names, and believes nobody yet
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=str(authority))
    except OSError as fault:
        raise Usage(
            f"{authority} cannot be used", found=_said(fault), wanted="PEM: who vouches for the other side"
        ) from fault
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password="")
        except OSError as fault:
            raise Usage(
                f"{certificate} cannot be used",
                found=_said(fault),
                wanted="PEM: a certificate, and its key without a passphrase"
                + (f" in {key}" if key is not None else ""),
            ) from fault
    return context


def _said(fault: OSError) -> str:
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or "an error of TLS").lower().replace("_", " ")
    return fault.strerror or str(fault)
