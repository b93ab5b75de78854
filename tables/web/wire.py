"""How a question is written as a URL: the one place that writes it, and reads it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, urlencode

from tables.questions import DEFAULT_LIMIT, BadQuestionError, Count, Get, Query, Scan

TABLES: Final = "/api/tables"
APPLICATION: Final = "Headrace-Application"
"""The header that says which application a worker is of: an address may have changed hands."""
FORWARDED: Final = "Headrace-Forwarded"
"""The header of what one worker asks another: it is answered from that worker's own tasks alone."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def path_of(query: Query) -> str:
    """Return path and query string of a question. Raises UnicodeEncodeError for what is no text."""
    path = f"{TABLES}/{_quoted(query.table)}"
    match query:
        case Get():
            return f"{path}/{_quoted(query.key)}"
        case Count():
            return f"{path}?{urlencode({'count': 'true', 'prefix': query.prefix})}"
        case Scan():
            given = {
                "prefix": query.prefix or None,
                "key": query.key,
                "from": query.from_ms,
                "to": query.to_ms,
                "after": query.after,
                "limit": query.limit,
            }
            return f"{path}?{urlencode({n: v for n, v in given.items() if v is not None})}"


def query_of(table: str, parameters: Iterable[tuple[str, str]]) -> Scan | Count:
    """Return the question that a table's path with these parameters asks. Raises BadQuestionError."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in given:
            raise BadQuestionError(f"{name} is given twice")
        given[name] = value
    if "count" in given:
        _refuse_others(given, ("count", "prefix"))
        if given["count"] != "true":
            raise BadQuestionError(f"count={given['count']!r}: it must be true, or not there")
        return Count(table, given.get("prefix", ""))
    _refuse_others(given, ("prefix", "key", "from", "to", "after", "limit"))
    limit = _number(given, "limit")
    return Scan(
        table,
        prefix=given.get("prefix", ""),
        key=given.get("key"),
        from_ms=_number(given, "from"),
        to_ms=_number(given, "to"),
        after=given.get("after"),
        limit=DEFAULT_LIMIT if limit is None else limit,
    )


def _number(given: Mapping[str, str], name: str) -> int | None:
    if name not in given:
        return None
    if not _NUMBER.fullmatch(given[name]):
        msg = f"{name}={given[name][:100]!r}: it must be a whole number, 0 or more"
        raise BadQuestionError(msg)
    return int(given[name])


def _refuse_others(given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise BadQuestionError(
                f"no parameter {name[:100]!r} here; there are {', '.join(known)}"
            )


def _quoted(text: str) -> str:
    # A segment of dots alone would be taken for a folder, and vanish.
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
