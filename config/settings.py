"""Every setting, read once at the start into one frozen object.

A field's environment variable is its name in capitals, with HEADRACE_ before it where it does not
begin with kafka_. `.env` in the working directory counts too; the environment wins over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.contradictions import contradictions
from streams.errors import HeadraceError

# Broker's limit for topic names is 249; the longest of ours adds "-user_order_minutes-changelog".
_MAX_APP_ID_CHARACTERS: Final = 200
_BROKER: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?")
_MAX_SHOWN_CHARACTERS: Final = 100
_DEFAULT_PORT: Final = 9092
_MAX_PORT: Final = 65_535


class SettingsError(HeadraceError):
    """A setting makes no sense. `str()` names its environment variable and what is allowed."""


def environment_name(field: str) -> str:
    """Return the environment variable of a field of Settings."""
    return field.upper() if field.startswith("kafka_") else f"HEADRACE_{field.upper()}"


def _split_brokers(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _with_port(brokers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the brokers as host:port each; raise ValueError where one is something else."""
    complete = []
    for broker in brokers:
        match = _BROKER.fullmatch(broker)
        if match is None or not 0 < int(match["port"] or _DEFAULT_PORT) <= _MAX_PORT:
            raise ValueError(broker)
        complete.append(broker if match["port"] else f"{broker}:{_DEFAULT_PORT}")
    return tuple(complete)


def _not_a_dot_folder(name: str) -> str:
    if name in {".", ".."}:  # Kafka refuses such topics; as a folder they are another one's
        raise ValueError(name)
    return name


Brokers = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split_brokers), AfterValidator(_with_port)
]
# What Kafka allows in names of topics, groups' static members and transactional ids.
KafkaName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=_MAX_APP_ID_CHARACTERS),
    AfterValidator(_not_a_dot_folder),
]
# An address in either form, or a name; socket.bind judges the rest.
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]+$", max_length=253)]
# Absolute: a child process may run elsewhere.
Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
Guarantee = Literal["exactly_once", "at_least_once"]
OrdersTopic = Literal["orders", "orders-deduplicated"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Settings(BaseSettings):
    """Every setting. Each `description` completes the sentence "it must be ...".

    Make one with load_settings, whose errors are for people. The defaults suit the embedded Kafka.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        case_sensitive=True,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        alias_generator=environment_name,
    )

    # The cluster, and how to talk to it.
    kafka_brokers: Brokers = Field((), description="host:port of each broker, with commas between")
    kafka_client_id: str = Field("headrace", min_length=1, description="a name, not empty")
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: SaslMechanism | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_sasl_username: str | None = Field(None, description="the name to log in with")
    kafka_sasl_password: SecretStr | None = Field(None, description="the password to log in with")
    kafka_ssl_cafile: Path | None = Field(None, description="a file that can be read")
    kafka_ssl_certfile: Path | None = Field(None, description="a file that can be read")
    kafka_ssl_keyfile: Path | None = Field(None, description="a file that can be read")

    # 10 s: a killed worker's partitions are taken over within it. Kafka's own default (45 s,
    # KIP-735) spares cloud networks rebalances; no work of ours holds heartbeats up for so long.
    kafka_session_timeout_ms: int = Field(
        10_000, ge=1_000, le=1_800_000, description="a whole number of ms from 1000 to 1800000"
    )
    # Three a session, as Kafka advises: two may be lost.
    kafka_heartbeat_interval_ms: int = Field(
        default_factory=lambda data: min(3_000, data.get("kafka_session_timeout_ms", 9_000) // 3),
        ge=100,
        description="a whole number of ms, 100 or more",
    )
    # Each member may use a fifth of it for the last commit before it hands over: 12 s, where a
    # commit takes well under one. It also bounds how long a stuck member can hold up the rest.
    kafka_rebalance_timeout_ms: int = Field(
        60_000, ge=1_000, le=3_600_000, description="a whole number of ms from 1000 to 3600000"
    )
    # -1: the cluster's own default.replication.factor (KIP-464), which its owner chose.
    kafka_replication_factor: int = Field(
        -1, ge=-1, le=32_767, description="a whole number, 1 or more (-1: the cluster's default)"
    )
    kafka_compression: Compression = Field("lz4", description="none, gzip, snappy, lz4 or zstd")
    kafka_auto_create_topics: bool = Field(default=True, description="true or false")

    # The application.
    app_id: KafkaName = Field(
        "headrace",
        description=f"1 to {_MAX_APP_ID_CHARACTERS} of the characters a-z A-Z 0-9 . _ - "
        "(it begins the names of topics)",
    )
    # In the working directory, as .env is: what a folder is set up to run keeps its state there, so
    # two checkouts never share it, and it is seen, and goes with the folder.
    data_dir: Folder = Field(
        Path("headrace-data"), description="a folder, or the path of a new one"
    )
    partitions: int = Field(4, ge=1, le=10_000, description="a whole number from 1 to 10000")
    # The upper bound keeps an open transaction well below Kafka's time-out for one (60 s).
    commit_interval_ms: int = Field(
        100, ge=1, le=30_000, description="a whole number of ms from 1 to 30000"
    )
    processing_guarantee: Guarantee = Field(
        "exactly_once", description="exactly_once or at_least_once"
    )
    orders_topic: OrdersTopic = Field("orders", description="orders or orders-deduplicated")
    high_value_amount: Decimal = Field(
        Decimal(1000),
        ge=0,
        le=10**13,
        decimal_places=2,
        description="a number from 0 to 10000000000000 with at most two decimals",
    )
    vip_orders: int = Field(10, ge=1, description="a whole number, 1 or more")
    low_stock: int = Field(10, ge=0, description="a whole number, 0 or more")
    # None by default: each costs the disk of what it follows, and a part of a core (decision 0017).
    standby_replicas: int = Field(0, ge=0, description="a whole number, 0 or more")
    # Whoever can reach it can read all tables: from this machine alone, unless it is said otherwise.
    web_host: Host = Field("127.0.0.1", description="an address of this machine, or a name of it")
    # Faust's own port: its users look there.
    web_port: int = Field(
        6066, ge=1, le=_MAX_PORT, description=f"a port number from 1 to {_MAX_PORT}"
    )
    instance_id: KafkaName | None = Field(
        None,
        description=f"1 to {_MAX_APP_ID_CHARACTERS} of the characters a-z A-Z 0-9 . _ -, "
        "another for each worker",
    )
    max_ahead_ms: int = Field(3_600_000, ge=0, description="a whole number of ms, 0 or more")
    # None by default: what a clock closes, a replay closes elsewhere (law 7).
    idle_timeout_ms: int | None = Field(None, ge=1, description="a whole number of ms, 1 or more")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if found := list(contradictions(self)):
            raise ValueError("\n".join(found))
        return self

    @property
    def high_value_amount_cents(self) -> int:
        """The amount in whole cents, as rules count."""
        return int(self.high_value_amount * 100)

    @property
    def exactly_once(self) -> bool:
        """Whether commits are Kafka transactions."""
        return self.processing_guarantee == "exactly_once"

    @property
    def compression_type(self) -> str | None:
        """The compression as aiokafka's producer takes it."""
        return None if self.kafka_compression == "none" else self.kafka_compression


def load_settings(**overrides: object) -> Settings:
    """Return the settings of environment and .env; overrides, by field name, win over both.

    Raises SettingsError, whose one line names the first setting that makes no sense, its value
    (never a secret's), what is allowed, and how many more there are.
    """
    if unknown := overrides.keys() - Settings.model_fields.keys():
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    try:
        return Settings(**cast("Any", {environment_name(k): v for k, v in overrides.items()}))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    except UnicodeDecodeError as error:
        raise SettingsError(f"cannot read .env: it is not UTF-8 ({error.reason})") from None
    except OSError as error:
        raise SettingsError(f"cannot read .env: {error.strerror}") from None
    # Out here, without pydantic's error as the cause: that one shows values, secrets included.
    lines = [line for problem in problems for line in _lines(problem)]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    raise SettingsError(lines[0] + more)


def _lines(problem: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for people that one of pydantic's errors stands for."""
    if problem["type"] == "default_factory_not_called":  # it waits for the field at fault
        return
    if not problem["loc"]:
        yield from str(problem["ctx"]["error"]).splitlines()
        return
    name = str(problem["loc"][0])
    field = next(f for f in Settings.model_fields if environment_name(f) == name)
    allowed = Settings.model_fields[field].description
    yield f"{name}{_shown(field, problem['input'])} makes no sense: it must be {allowed}"


def _shown(field: str, value: object) -> str:
    """Return `=value`, or nothing where it may hold a secret (a broker's URL may, too)."""
    text = str(value)
    secret = "SecretStr" in str(Settings.model_fields[field].annotation) or "@" in text
    return "" if secret else f"={text[:_MAX_SHOWN_CHARACTERS]!r}"
