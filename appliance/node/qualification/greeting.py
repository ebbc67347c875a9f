"""What the SSH server says to somebody who is not let in: its banner, and whether it would take a password.

The station connects and offers a password that is nobody's.  A server that takes passwords at all would
try it; one that does not names what it would take instead (RFC 4252, section 5.1).
"""

from __future__ import annotations

import logging
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.node.qualification.finding import Finding, not_run

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

#: Both ways in which a server asks for a password.
_PASSWORDS: Final = {"password", "keyboard-interactive"}


@dataclass(frozen=True)
class Greeting:
    """``methods``: what would let in.  ``taken``: a password was tried.  ``trouble``: why unknown."""

    banner: str = ""
    methods: tuple[str, ...] = ()
    taken: bool = False
    trouble: str = ""


def greet(
    address: IPv4Address | IPv6Address, port: int, station: IPv4Address | IPv6Address, user: str
) -> Greeting:
    """Offer a password from one of the station's addresses; raises nothing about the node."""
    import paramiko

    logging.getLogger("paramiko.transport").addHandler(logging.NullHandler())
    try:
        link = socket.create_connection((str(address), port), timeout=10, source_address=(str(station), 0))
    except OSError as fault:
        return Greeting(trouble=str(fault))
    with link, paramiko.Transport(link) as transport:
        try:
            transport.start_client(timeout=10)
            transport.auth_password(user, secrets.token_urlsafe(24), fallback=False)
            methods: tuple[str, ...] = ()
            taken = True  # let in by a random password
        except paramiko.BadAuthenticationType as refused:
            methods, taken = tuple(refused.allowed_types), False
        except paramiko.AuthenticationException:
            methods, taken = ("password",), True
        except (paramiko.SSHException, OSError, EOFError) as fault:
            return Greeting(trouble=str(fault) or type(fault).__name__)
        banner = (transport.get_banner() or b"").decode("utf-8", "replace")
        return Greeting(banner, methods, taken)


def judge_passwords(greeting: Greeting | None) -> Finding:
    """Keys are what lets in, and nothing that a person can type."""
    wanted = "a password is not even tried; publickey is the only way in"
    if greeting is None:
        return not_run("installed from the node itself: nobody is outside to try", wanted=wanted)
    if greeting.trouble:
        return Finding(kept=False, found=f"not tried: {greeting.trouble}", wanted=wanted)
    named = ", ".join(greeting.methods) or "nothing"
    kept = not greeting.taken and not _PASSWORDS & set(greeting.methods) and "publickey" in greeting.methods
    found = "the server tried the password" if greeting.taken else "refused untried"
    return Finding(kept, f"{found}; it would take {named}", wanted)


def judge_banner(greeting: Greeting | None, banner: str) -> Finding:
    """The site's banner is shown before anybody is let in."""
    wanted = banner.strip()
    if greeting is None:
        return not_run("installed from the node itself: nobody is outside to read it", wanted=wanted)
    found = greeting.banner.strip() or greeting.trouble or "no banner"
    return Finding(found == wanted, found, wanted)
