"""Who sent a request, as far as it can be trusted."""

import ipaddress

from django.http import HttpRequest

UNKNOWN = "-"
# What one customer gets of IPv6 at the least: each address in it is theirs.
IPV6_CUSTOMER_BITS = 64


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address; None for anything else, zone ids included: they may hold any text."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_local_peer(request: HttpRequest) -> bool:
    """Tell whether the connection itself came over a unix socket or from this host."""
    peer = request.META.get("REMOTE_ADDR", "")
    address = _address(peer)
    return not peer or bool(address and address.is_loopback)


def is_direct(request: HttpRequest) -> bool:
    """Tell whether a process on this host asks for itself, not for a client behind the proxy."""
    return is_local_peer(request) and "HTTP_X_FORWARDED_FOR" not in request.META


def client_ip(request: HttpRequest | None) -> str:
    """Return the client's address in its canonical form, "-" where none is known.

    X-Forwarded-For counts only when the connection came from this host, where the proxy is that sets it.
    """
    if request is None:
        return UNKNOWN
    candidates = [request.META.get("REMOTE_ADDR", "")]
    if is_local_peer(request):
        candidates.insert(0, request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")[0])
    for candidate in candidates:
        address = _address(candidate)
        if address:
            return str(address)
    return UNKNOWN


def counted_as(request: HttpRequest | None) -> str:
    """Return what a client's requests are counted by: an IPv4 address, or an IPv6 network; "-" where none is known."""
    ip = client_ip(request)
    return str(ipaddress.ip_network(f"{ip}/{IPV6_CUSTOMER_BITS}", strict=False)) if ":" in ip else ip
