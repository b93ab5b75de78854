"""What is known of a user after each event."""

from collections.abc import Iterable, MutableMapping
from typing import TypeAlias

from msgspec.structs import replace

from streams.events import (
    UserDeleted,
    UserLoggedIn,
    UserPasswordChanged,
    UserProfile,
    UserRegistered,
    UserRegisteredData,
    UserStatusChanged,
    UserUpdated,
)
from tables.definitions import User

ACTIVE = "active"
_NOBODY = User()

UserEvent: TypeAlias = (
    UserRegistered
    | UserUpdated
    | UserLoggedIn
    | UserPasswordChanged
    | UserDeleted
    | UserStatusChanged
)


def keep_users(events: Iterable[UserEvent], users: MutableMapping[str, User]) -> None:
    """Apply each event to its user's row, in their order; a deletion removes the row.

    An event for an unknown user makes the row, with what it tells.
    """
    for event in events:
        user_id = event.data.user_id
        row = users.get(user_id, _NOBODY)
        match event:
            case UserRegistered(timestamp=time_ms):
                row = replace(_with_profile(row, event.data), status=ACTIVE, registered_at=time_ms)
            case UserUpdated():
                row = _with_profile(row, event.data.changes)
            case UserLoggedIn(timestamp=time_ms):
                row = replace(row, last_login_at=time_ms)
            case UserStatusChanged():
                row = replace(row, status=event.data.status)
            case UserDeleted():
                users.pop(user_id, None)
                continue
            case _:
                pass  # a changed password tells that there is such a user, and no more
        users[user_id] = row


def _with_profile(row: User, told: UserProfile | UserRegisteredData) -> User:
    """Return the row with what is told of the profile; what is not told stays."""
    return replace(
        row,
        username=row.username if told.username is None else told.username,
        email=row.email if told.email is None else told.email,
        country=row.country if told.country is None else told.country,
    )
