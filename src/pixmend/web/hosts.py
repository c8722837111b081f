"""Which names and addresses are this machine's own."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own and nobody else's; IPv6 with or without brackets.

    Only such names as no other machine's name server has a say in: else a page of another site could bind its own name
    to 127.0.0.1 (DNS rebinding).
    """
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
