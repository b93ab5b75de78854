"""Where the view listens, and by which address others are told to reach it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from streams.errors import HeadraceError
from tables.web.address import is_loopback, is_wildcard, listen, reached_by
from tables.web.server import WebView


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield somebody.getsockname()[1]


def test_where_the_port_is_taken_the_next_free_one_is_used_and_said(
    taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    view = WebView("app", "127.0.0.1", taken, [])
    with caplog.at_level(logging.INFO):
        address = view.listen()
    host, _, port = address.partition(":")
    assert (host, taken < int(port) < taken + 100) == ("127.0.0.1", True)
    assert f"http://{address}/ (port {taken} is taken)" in caplog.text
    assert view._socket is not None
    view._socket.close()


def test_without_a_free_port_up_to_the_last_one_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr("tables.web.address._MAX_PORT", taken)
    with pytest.raises(HeadraceError, match=f"no free port at 127.0.0.1 from {taken} to {taken}"):
        listen("127.0.0.1", taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(HeadraceError, match=f"cannot listen at {host}.*set HEADRACE_WEB_HOST"):
        listen(host, 6066)


def test_a_view_at_one_address_is_reached_there() -> None:
    assert reached_by("127.0.0.1", 6066, []) == "127.0.0.1:6066"
    assert reached_by("worker-1", 6067, []) == "worker-1:6067"
    assert reached_by("::1", 6066, []) == "[::1]:6066"


def test_a_view_at_every_address_is_reached_by_the_one_that_reaches_kafka() -> None:
    assert reached_by("0.0.0.0", 6066, ["127.0.0.1:9092"]) == "127.0.0.1:6066"  # noqa: S104
    # The first broker whose name can be resolved counts; none: the machine's name.
    unknown = "no-such-host.invalid:9092"
    assert reached_by("0.0.0.0", 1, [unknown, "127.0.0.2:1"]) == "127.0.0.1:1"  # noqa: S104
    assert reached_by("0.0.0.0", 6066, [unknown]) == f"{socket.gethostname()}:6066"  # noqa: S104


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_hosts_that_only_this_machine_reaches(host: str) -> None:
    assert (is_loopback(host), is_wildcard(host)) == (True, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what a container needs
def test_hosts_that_are_every_address(host: str) -> None:
    assert (is_loopback(host), is_wildcard(host)) == (False, True)


@pytest.mark.parametrize("host", ["10.0.0.1", "worker-1", "localhost.example"])
def test_other_hosts(host: str) -> None:
    assert (is_loopback(host), is_wildcard(host)) == (False, False)
