"""A Grouping behind aiokafka's assignor interface, and how members' words travel in its user data."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streams.engine.cluster import Grouping, Member, Owner
from streams.engine.kafka_client import by_topic

log = logging.getLogger(__name__)


class Told(msgspec.Struct, frozen=True):
    """What the leader tells a member."""

    owners: Sequence[Owner] = ()
    standbys: Sequence[str] = ()
    """The tasks that this member follows."""


_decode_member: Final = msgspec.json.Decoder(Member).decode
_decode_told: Final = msgspec.json.Decoder(list[Owner] | Told).decode


class KafkaAssignor:
    """A Grouping as aiokafka takes it: an object as well as a class."""

    name: Final = "headrace"

    def __init__(self, grouping: Grouping) -> None:
        self._grouping = grouping
        self._asked_anew = 0

    def ask_anew(self) -> None:
        """Have the group assigned anew when this member joins next: it tells the same in other bytes.

        Kafka gives a member that is no leader its present assignment back as long as it tells the same.
        """
        self._asked_anew += 1

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this member tells the leader."""
        member = self._grouping.describe()
        # Without standbys in the form that all versions read: a rolling upgrade moves nothing. Spaces
        # behind JSON mean nothing, to workers of other versions either.
        told = msgspec.json.encode(member if member.disk else member[:2]) + b" " * self._asked_anew
        return ConsumerProtocolMemberMetadata(
            version=0, subscription=sorted(topics), user_data=told
        )

    def assign(
        self,
        cluster: Any,  # noqa: ARG002 - aiokafka's interface
        members: Mapping[str, ConsumerProtocolMemberMetadata],
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return the leader's decision."""
        told = {name: member_of(metadata.user_data) for name, metadata in members.items()}
        partitions, owners, standbys = self._grouping.assign(told)
        everybody = msgspec.json.encode(owners)  # as to members: in the form that all versions read
        return {
            name: ConsumerProtocolMemberAssignment(
                version=0,
                assignment=by_topic(assigned),
                user_data=msgspec.json.encode(Told(owners, standbys[name]))
                if standbys.get(name)
                else everybody,
            )
            for name, assigned in partitions.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Pass on who owns what and what to follow; of its partitions the listener hears next."""
        told = _told_by_leader(assignment.user_data)
        self._grouping.hear(told.owners, told.standbys)


def told_by(metadata: bytes) -> Member:
    """Return what a member tells, from its metadata as the group's coordinator describes it."""
    return member_of(ConsumerProtocolMemberMetadata.decode(metadata).user_data)


def member_of(user_data: bytes | None) -> Member:
    """Return what a member tells; one that tells nothing, or something else, has nothing on its disk.

    It may be of another version: an error here would end the leader.
    """
    try:
        return _decode_member(user_data) if user_data else Member({})
    except msgspec.MsgspecError as error:
        log.warning("a member of the group tells what cannot be read: %s", error)
        return Member({})


def _told_by_leader(user_data: bytes | None) -> Told:
    """Return what the leader tells; nothing if it is of a version that tells nothing, or else."""
    try:
        told = _decode_told(user_data) if user_data else Told()
    except msgspec.MsgspecError as error:
        log.warning("the group's leader tells what cannot be read: %s", error)
        return Told()
    return told if isinstance(told, Told) else Told(told)
