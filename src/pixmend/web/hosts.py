"""Which names and addresses are this machine's own, and which others reach it by."""

from __future__ import annotations

import ipaddress
import socket

ELSEWHERE = {"0.0.0.0": ("192.0.2.1", 9), "::": ("2001:db8::1", 9)}  # of no machine (RFC 5737, RFC 3849)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own and nobody else's; IPv6 with or without brackets.

    Only such names as no other machine's name server has a say in: else a page of another site could bind its own name
    to 127.0.0.1 (DNS rebinding).
    """
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def reachable(host: str) -> str:
    """A host to be bound to as others name it: for all addresses of a machine the one of its network, or its name."""
    if host not in ELSEWHERE:
        return host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect(ELSEWHERE[host])  # sends nothing
            return str(way.getsockname()[0])
    except OSError:  # no way out of here
        return socket.gethostname()
