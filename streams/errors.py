"""Errors for people: what happened, to what, and what to do."""


class HeadraceError(Exception):
    """An expected failure. `str()` of it is one clear line, without a traceback."""


class BrokerError(HeadraceError):
    """The embedded Kafka cannot be installed, started or reached in the time given."""


class BrokerUnreachableError(HeadraceError):
    """No broker of the cluster in use answered in the time given."""


class BrokerRefusedError(HeadraceError):
    """A broker answered, and will not let us in as the KAFKA_ settings are."""


class AccessDeniedError(HeadraceError):
    """The cluster knows who we are, and an ACL for what we do is missing."""


class TopicError(HeadraceError):
    """A topic is missing, has the wrong shape, or cannot be made."""
