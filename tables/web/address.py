"""Where a worker's web view listens, and by which address others reach it."""

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Final

from streams.errors import HeadraceError

_PORTS_TRIED: Final = 100
_MAX_PORT: Final = 65_535


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at host and port, or at the next port that is free.

    Raises HeadraceError where the host is none of this machine, or no port is free.
    """
    last = min(port + _PORTS_TRIED - 1, _MAX_PORT)
    try:
        [(family, *_), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for candidate in range(port, last + 1):
            try:
                return socket.create_server((host, candidate), family=family)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    except OSError as error:
        # Python's words repeat the address; for a name that nobody knows there is no system's word.
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror
        raise HeadraceError(
            f"the web view cannot listen at {host}, port {port} ({why}): set HEADRACE_WEB_HOST to an "
            "address of this machine, and HEADRACE_WEB_PORT"
        ) from error
    raise HeadraceError(
        f"the web view finds no free port at {host} from {port} to {last}: set HEADRACE_WEB_PORT"
    )


def reached_by(host: str, port: int, brokers: Sequence[str]) -> str:
    """Return the `host:port` that others are told, for a view that listens at host and port.

    One that listens at every address of the machine tells the one from which it reaches Kafka:
    whoever is in the group reaches Kafka too.
    """
    if is_wildcard(host):
        host = _own_address(brokers, socket.AF_INET6 if ":" in host else socket.AF_INET)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Tell whether a host means every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether a host is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_address(brokers: Sequence[str], family: socket.AddressFamily) -> str:
    for broker in brokers:
        name, _, port = broker.rpartition(":")
        try:
            [(_, _, _, _, address), *_] = socket.getaddrinfo(
                name.strip("[]"), int(port), family, socket.SOCK_DGRAM
            )
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(address)  # of a datagram socket: nothing is sent
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return socket.gethostname()
