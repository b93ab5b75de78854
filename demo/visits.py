"""What users do before they order: register, log in, change their profile or status, leave."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from demo.habits import User

_ORDERS_A_SESSION = 4
_CHANGE_SHARE = 0.08
_CHANGES = (b"country", b"email", b"password", b"status")
_CHANGE_SHARES = (2, 3, 1, 2)
_DELETE_SHARE = 0.003
_RETURN_SHARE = 0.05
BEFORE_ORDER_MS = (20_000, 120_000)
"""How long before its order a visit begins: at least, and less than."""
_STEP_MS = 4_000

# number, name, user id, time, user id, user id, more data
_EVENT = (
    b'{"event_id":"%b-%d","event_type":"user.%b","aggregate_id":"%b","timestamp":%d,"version":1,'
    b'"data":{"user_id":"%b"%b}}'
)
_STATUSES = (b"active", b"verified", b"suspended")
_DEVICES = (b"phone", b"laptop", b"tablet")
_COUNTRIES = (b"US", b"DE", b"GB", b"JP", b"BR", b"FR", b"IN")


class Visit(NamedTuple):
    """What a user did before an order: events of `users`; and whether the order comes at all."""

    events: Sequence[bytes]
    orders: bool
    tells_country: bool = False
    """Whether an event says in which country the user is, or that they have left."""


_STRAIGHT_TO_THE_ORDER = Visit((), orders=True)
_STAYS_AWAY = Visit((), orders=False)


class Visits:
    """The users' side of a stream: what each does on the site, one visit after the other."""

    def __init__(
        self, random: Random, seed: int, before_order_ms: tuple[int, int] = BEFORE_ORDER_MS
    ) -> None:
        self._random = random
        self._before_order_ms = before_order_ms
        self._prefix = b"visit-%d" % seed
        self._made = 0

    def before_order(self, user: User, time_ms: int) -> Visit:
        """Return what the user does before an order at that time, event times rising towards it.

        Nothing while their session lasts, and never anything of a guest. Who has deleted the account
        stays away for a while, and registers anew.
        """
        random = self._random
        if user.is_guest:
            return _STRAIGHT_TO_THE_ORDER
        if user.is_registered and user.orders_left:
            user.orders_left -= 1
            return _STRAIGHT_TO_THE_ORDER
        if user.was_deleted and random.random() > _RETURN_SHARE:
            return _STAYS_AWAY
        user.orders_left = int(random.random() * _ORDERS_A_SESSION)
        acts: list[tuple[bytes, bytes]] = []
        if not user.is_registered:
            acts.append((b"registered", _profile(user)))
        acts.append((b"logged_in", self._device()))
        leaves = random.random() < _DELETE_SHARE
        if leaves:
            acts.append((b"deleted", b""))
        elif random.random() < _CHANGE_SHARE:
            acts.append(self._change(user))
        user.is_registered, user.was_deleted = not leaves, leaves
        first_ms = time_ms - random.randrange(*self._before_order_ms)
        events = [self._event(user.id, *act, first_ms + n * _STEP_MS) for n, act in enumerate(acts)]
        tells_country = any(_tells_country(act) for act in acts)
        return Visit(events, orders=not leaves, tells_country=tells_country)

    def registration(self, user: User, time_ms: int) -> bytes:
        """Return the event with which a user registers, who is to come later."""
        user.is_registered = True
        return self._event(user.id, b"registered", _profile(user), time_ms)

    def login(self, user_id: bytes, time_ms: int) -> bytes:
        """Return the event with which somebody logs in."""
        return self._event(user_id, b"logged_in", self._device(), time_ms)

    def _device(self) -> bytes:
        chance = self._random.random()
        return b',"ip":"192.0.2.%d","device":"%b"' % (
            int(chance * 256),
            _DEVICES[int(chance * len(_DEVICES))],
        )

    def _change(self, user: User) -> tuple[bytes, bytes]:
        (kind,) = self._random.choices(_CHANGES, weights=_CHANGE_SHARES)
        if kind == b"status":
            return b"status_changed", b',"status":"%b"' % self._random.choice(_STATUSES)
        if kind == b"country":
            country = self._random.choice(_COUNTRIES)
            return b"updated", b',"changes":{"country":"%b"}' % country
        if kind == b"email":
            return b"updated", b',"changes":{"email":"%b@mail-%d.example"}' % (user.id, self._made)
        return b"password_changed", b""

    def _event(self, user_id: bytes, name: bytes, data: bytes, time_ms: int) -> bytes:
        self._made += 1
        return _EVENT % (self._prefix, self._made, name, user_id, time_ms, user_id, data)


def _tells_country(act: tuple[bytes, bytes]) -> bool:
    name, data = act
    return name in (b"registered", b"deleted") or b'"country"' in data


def _profile(user: User) -> bytes:
    return b',"username":"%b","email":"%b@example.org","country":"%b"' % (
        user.id,
        user.id,
        user.country,
    )
