"""Why no broker lets us in: aiokafka's clients only log that, and keep trying.

Asked after they have failed. Nothing here knows a secret that the clients do not send as well, and
what is tried with another security protocol ends before a login.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import BrokerRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
# OpenSSL's numbers (X509_V_ERR_...), which the ssl module does not name.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)  # a host's name, an address


class _Broker(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class _Refusal(Exception):  # noqa: N818 - a verdict on its way up, told as BrokerRefusedError
    """A sentence without its subject, which is the broker."""


async def raise_refusal(client_options: Mapping[str, Any]) -> None:
    """Raise BrokerRefusedError where a broker answers, and waiting would not make it let us in.

    That is decided by the brokers that the options name; where one of them lets us in, by those that
    it sends its clients on to. Takes 5 s at most. Returns where all is well, and where brokers just
    are not there (yet).
    """
    servers = client_options.get("bootstrap_servers", "localhost")
    named = [_Broker(host, port) for host, port, _ in collect_hosts(servers)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TIMEOUT_S):
            for broker, known in await _let_in_by(named, client_options):
                others = [other for other in known if other not in named]
                await _let_in_by(others, client_options, sent_on_by=broker)


async def unknown_names(client_options: Mapping[str, Any]) -> list[str]:
    """Return the hosts that the options name and that this machine cannot find (yet), each once."""
    servers = client_options.get("bootstrap_servers", "localhost")
    loop = asyncio.get_running_loop()
    unknown = []
    for host in dict.fromkeys(host for host, _, _ in collect_hosts(servers)):
        try:
            await loop.getaddrinfo(host, None)
        except OSError:
            unknown.append(host)
    return sorted(unknown)


async def _let_in_by(
    brokers: Sequence[_Broker], options: Mapping[str, Any], *, sent_on_by: _Broker | None = None
) -> list[tuple[_Broker, list[_Broker]]]:
    """Return the brokers that let us in, each with all brokers that it knows.

    Raises BrokerRefusedError where there is none, but one that refuses.
    """
    asked = (_verdict(broker, options, sent_on_by) for broker in brokers)
    verdicts = list(zip(brokers, await asyncio.gather(*asked), strict=True))
    let_in = [(broker, verdict) for broker, verdict in verdicts if isinstance(verdict, list)]
    refusals = [v for _, v in verdicts if isinstance(v, BrokerRefusedError)]
    if refusals and not let_in:
        raise refusals[0]
    return let_in


async def _verdict(
    broker: _Broker, options: Mapping[str, Any], sent_on_by: _Broker | None
) -> list[_Broker] | BrokerRefusedError | None:
    """Return the brokers that this one knows, its refusal, or None where it is not there."""
    subject = f"the broker at {broker}"
    if sent_on_by is not None:
        subject = f"the broker at {sent_on_by} sends its clients on to {broker}, which"
    try:
        return await _ask(broker, options)
    except _Refusal as refusal:
        return BrokerRefusedError(f"{subject} {refusal}")
    except socket.gaierror:
        if sent_on_by is None:  # a name may appear together with its broker
            return None
        hint = "this machine cannot find: check the broker's advertised.listeners"
        return BrokerRefusedError(f"{subject} {hint}")
    except (kafka_errors.KafkaError, OSError) as error:
        log.debug("%s: %r", broker, error)
        return None


async def _ask(broker: _Broker, options: Mapping[str, Any]) -> list[_Broker]:
    """Return the brokers that this one names. Raises _Refusal, or what says that it is not there."""
    try:
        async with _connected(broker, options) as connection:
            answer = await connection.send(MetadataRequest([]))
            return [_Broker(host, port) for _, host, port, *_ in answer.brokers]
    except kafka_errors.UnsupportedSaslMechanismError as error:
        offered = await _mechanisms(broker, options)
        raise _Refusal(
            f"does not offer KAFKA_SASL_MECHANISM={options['sasl_mechanism']}: it must be "
            f"{' or '.join(offered) or 'another one'}"
        ) from error
    except kafka_errors.IllegalSaslStateError as error:
        protocol = "SSL" if _has_tls(options) else "PLAINTEXT"
        raise _Refusal(
            f"takes no login: KAFKA_SECURITY_PROTOCOL must be {protocol}, without KAFKA_SASL_ settings"
        ) from error
    except kafka_errors.SaslAuthenticationFailed as error:
        raise _Refusal(
            f"refuses the login of {options['sasl_plain_username']!r} by {options['sasl_mechanism']}: "
            "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that the user has such a password"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise _Refusal(_distrust(error)) from error
    except (kafka_errors.KafkaConnectionError, OSError) as error:
        alert = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(alert, ssl.SSLError) and _is_alert(alert):
            raise _Refusal(_alert(alert.reason)) from error
        await _refuse_other_protocol(broker, options, error)
        raise


@contextlib.asynccontextmanager
async def _connected(
    broker: _Broker, options: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaConnection]:
    """Yield a connection that has seen the broker's versions and, if options say so, has logged in."""
    own = {"bootstrap_servers", "request_timeout_ms"}
    connection = AIOKafkaConnection(
        broker.host,
        broker.port,
        request_timeout_ms=_TIMEOUT_S * 1000,
        **{name: value for name, value in options.items() if name not in own},
    )
    await connection.connect()
    try:
        yield connection
    finally:
        await connection.close()


def _has_tls(options: Mapping[str, Any]) -> bool:
    return str(options.get("security_protocol", "PLAINTEXT")).endswith("SSL")


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    """Say what we have against a broker's certificate."""
    if error.verify_code == _EXPIRED:
        return "has a certificate that has expired: its owner must renew it"
    if error.verify_code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet: check this machine's clock"
    if error.verify_code in _OTHER_NAME:
        mismatch = error.verify_message.rstrip(".")
        return (
            f"has a certificate for another name ({mismatch}): KAFKA_BROKERS and advertised.listeners "
            "must name brokers as their certificates do"
        )
    return (
        f"has a certificate that is not trusted ({error.verify_message}): KAFKA_SSL_CAFILE must hold "
        "the certificate of the authority that signed it"
    )


def _alert(reason: str) -> str:
    """Say what a broker has against our side of TLS, by the alert that it sent."""
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return "wants a client's certificate: set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
    return (
        f"refuses our side of TLS ({reason}): check KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE, and that "
        "it trusts who signed them"
    )


async def _refuse_other_protocol(
    broker: _Broker, options: Mapping[str, Any], error: Exception
) -> None:
    """Raise _Refusal where the broker would answer another security protocol than ours."""
    protocol = options.get("security_protocol", "PLAINTEXT")
    if _has_tls(options):
        if await _answers(broker, {"security_protocol": "PLAINTEXT"}):
            raise _Refusal(
                f"does not speak TLS: KAFKA_SECURITY_PROTOCOL={protocol} must be PLAINTEXT or "
                "SASL_PLAINTEXT there"
            ) from error
    elif await _handshakes(broker):
        raise _Refusal(
            f"speaks TLS: KAFKA_SECURITY_PROTOCOL={protocol} must be SSL or SASL_SSL there"
        ) from error
    if not protocol.startswith("SASL") and (offered := await _mechanisms(broker, options)):
        raise _Refusal(
            f"wants a login: KAFKA_SECURITY_PROTOCOL={protocol} must be SASL_{protocol} there, and "
            f"KAFKA_SASL_MECHANISM {' or '.join(offered)}"
        ) from error


async def _answers(broker: _Broker, options: Mapping[str, Any]) -> bool:
    """Tell whether a broker tells its versions, which it does before any login."""
    try:
        async with _connected(broker, options):
            return True
    except (kafka_errors.KafkaError, OSError):
        return False


async def _handshakes(broker: _Broker) -> bool:
    """Tell whether a broker speaks TLS, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only the question whether it is TLS
    try:
        _, writer = await asyncio.open_connection(broker.host, broker.port, ssl=context)
    except ssl.SSLError as error:
        return _is_alert(error)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _mechanisms(broker: _Broker, options: Mapping[str, Any]) -> list[str]:
    """Return the ways to log in that a broker offers over our transport; none if it takes no login."""
    without_login = {
        name: value for name, value in options.items() if not name.startswith("sasl_")
    } | {"security_protocol": "SSL" if _has_tls(options) else "PLAINTEXT"}
    try:
        async with _connected(broker, without_login) as connection:
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
    except (kafka_errors.KafkaError, OSError):
        return []
    offered: list[str] = answer.enabled_mechanisms
    return sorted(offered)


def _is_alert(error: ssl.SSLError) -> bool:
    """Tell whether the other side speaks TLS and refuses."""
    return "ALERT" in (error.reason or "")
