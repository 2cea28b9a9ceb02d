"""Brokers' addresses as people and brokers write them, made what both Kafka clients take."""

import re
from ipaddress import IPv6Address

from stream.core.errors import SettingError

# A listener's name as brokers print it, a host or an IPv6 address in brackets, a port.
_ADDRESS = re.compile(r"(?:(\w+)://)?(?:\[([^\]]+)\]|([^\s:/@\[\]]+)):([0-9]{1,5})/?", re.ASCII)
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_REMEDY = "write host:port, several with commas; an IPv6 address stands in brackets: [::1]:9092"


def parse_addresses(text: str, protocol: str) -> list[str]:
    """Return the addresses in a text, each as host:port; raise SettingError for one that is none.

    A listener's name before it is left out, but must not say another of Kafka's protocols than `protocol`. Errors
    count addresses and show none: on a wrong line of a file of properties it may be a secret.
    """
    return [_parse_address(part.strip(), protocol, n) for n, part in enumerate(text.split(","), 1)]


def _parse_address(text: str, protocol: str, n: int) -> str:
    match, which = _ADDRESS.fullmatch(text), f"address {n} of bootstrap_servers"
    if not match:
        raise SettingError(f"{which} {'has no host and port' if text else 'is empty'}", _REMEDY)
    listener, numeric, host, port = match.groups()
    if listener and listener.upper() in _PROTOCOLS and listener.upper() != protocol:
        raise SettingError(
            f"{which} says {listener.upper()}, but security.protocol is {protocol}",
            f"write security.protocol={listener.upper()} into the file that kafka_properties names",
        )
    if not 0 < int(port) < 65_536:
        raise SettingError(f"{which} has the port {port}, which is not between 1 and 65535", _REMEDY)
    if numeric and not _is_ipv6(numeric):
        raise SettingError(f"{which} has brackets that hold no IPv6 address", _REMEDY)
    return f"[{numeric}]:{port}" if numeric else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False
