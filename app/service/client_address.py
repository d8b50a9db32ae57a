"""The address that limits per client count by."""

from ipaddress import IPv6Address, ip_address

IPV6_CLIENT_BITS = 64
"""Leading bits of an IPv6 address that identify a client, who usually has all addresses of such a network."""


def client_key(host: str) -> str:
    """The address of a client, or its network for IPv6; the text itself if it is no address.

    Args:
        host: address, as the connection or a trusted proxy tells it.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> IPV6_CLIENT_BITS << IPV6_CLIENT_BITS))
    return str(address)
