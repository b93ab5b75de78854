"""Routed reads: every key of the application, whichever worker is asked.

Nobody can compute the partition of a key, as clients hash differently. So a worker looks at its own
tasks and asks all others at once; the leader of the group has told everybody who they are. What is
read is committed (streams/engine/reads.py), and what one task says is a Part. An answer is given
only when it is certain: "there is no such row" needs a word from every task.
"""

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from streams.engine.cluster import Owner
from streams.engine.definitions import Table, Topology, WindowedTable
from streams.engine.layout import subtopologies
from streams.engine.reads import NotReadableError, read_row, read_rows, state_of
from streams.engine.task import Task
from tables.questions import (
    MAX_LIMIT,
    Answered,
    BadQuestionError,
    Count,
    Counted,
    Found,
    Get,
    NoSuchRowError,
    NoSuchTableError,
    NotNowError,
    Overview,
    Page,
    Part,
    Query,
    Row,
    Scan,
    TableView,
    TaskView,
    UnansweredError,
    WorkerView,
)

# Rows may have a megabyte each: a page ends before it has more than so many.
_PAGE_BYTES: Final = 4 << 20


class Owners(Protocol):
    """What is needed of an engine: its own tasks, and who has the others."""

    topology: Topology
    partitions: int

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks of this worker, by id."""

    @property
    def owners(self) -> Sequence[Owner]:
        """Who owns which task in the whole group, as far as known."""


class Others(Protocol):
    """How other workers are asked, by their address. Both raise UnansweredError."""

    async def parts(self, worker: str, query: Query) -> Sequence[Part]:
        """Return what the tasks of another worker say."""

    async def view(self, worker: str) -> WorkerView:
        """Return another worker's own row of the overview."""


class Tables:
    """Answers for every key of the application, as one worker.

    `worker` is its own address. Answers raise NoSuchTableError, BadQuestionError and NotNowError.
    """

    def __init__(self, application: str, engine: Owners, worker: str, others: Others) -> None:
        self.application = application
        self.worker = worker
        self._engine = engine
        self._others = others
        self._tables: dict[str, Table[object]] = {t.name: t for t in engine.topology.tables}
        self._tasks: dict[str, list[str]] = {
            table.name: [subtopology.task_id(n) for n in range(engine.partitions)]
            for subtopology in subtopologies(engine.topology)
            for table in subtopology.tables
        }

    # -- for everybody ------------------------------------------------------------------------------

    async def get(self, query: Get) -> Found:
        """Return the row of a key. Raises NoSuchRowError when every task has said that it has none.

        A key whose records were sent to several partitions has a row in each: one of them is given.
        """
        parts = await self.own_parts(query)
        if (found := _found(query, parts)) is not None:
            return found
        silent: dict[str, str] = {}
        async with _all_at_once(self._ask(query, silent)) as asked:
            for answer in asyncio.as_completed(asked):
                others = await answer
                if (found := _found(query, others)) is not None:
                    return found
                parts += others
        answered = [_answered(part) for part in self._complete(query.table, parts, silent)]
        msg = f"table {query.table} has no row with the key {query.key!r}"
        raise NoSuchRowError(msg, answered=answered)

    async def scan(self, query: Scan) -> Page:
        """Return a page of rows. Each is committed; a page is no snapshot."""
        if not 0 < query.limit <= MAX_LIMIT:
            raise BadQuestionError(f"limit must be a whole number from 1 to {MAX_LIMIT}")
        windowed = isinstance(self._table(query.table), WindowedTable)
        bounded = query.from_ms is not None or query.to_ms is not None
        if not windowed and (bounded or query.key is not None):
            raise BadQuestionError(
                f"table {query.table} has no windows: ask for /api/tables/{query.table}/KEY, or with "
                "prefix, after and limit"
            )
        if query.key is None and bounded:
            raise BadQuestionError("from and to go with key: the windows of which key?")
        if query.key is not None and query.prefix:
            raise BadQuestionError("key and prefix exclude each other")
        parts = await self._everything(query)
        rows, upto = _merged(parts, query.limit)
        return Page(query.table, rows, upto, list(map(_answered, parts)))

    async def count(self, query: Count) -> Counted:
        """Return the number of rows. It walks over all of them."""
        self._table(query.table)
        parts = await self._everything(query)
        return Counted(query.table, sum(part.count for part in parts), list(map(_answered, parts)))

    async def overview(self) -> Overview:
        """Return all tables and workers; of workers that do not answer, what the leader has told."""
        owners = [o for o in self._engine.owners if o.web != self.worker]
        views = await asyncio.gather(*map(self._view, owners))
        tables = [self._table_view(table) for table in self._tables.values()]
        return Overview(self.application, self.worker, tables, [self.own_view(), *views])

    # -- for other workers -----------------------------------------------------------------------------

    async def own_parts(self, query: Query) -> list[Part]:
        """Return what this worker's tasks say, without asking anybody."""
        self._table(query.table)
        mine = self._engine.tasks
        ids = [task_id for task_id in self._tasks[query.table] if task_id in mine]
        return [await self._own_part(mine[task_id], query) for task_id in ids if task_id in mine]

    def own_view(self) -> WorkerView:
        """Return this worker's row of the overview."""
        tasks = self._engine.tasks.items()
        views = [TaskView(id_, state_of(task), task.position.sources) for id_, task in tasks]
        return WorkerView(self.worker, sorted(views, key=attrgetter("task")))

    # -- inside ----------------------------------------------------------------------------------------

    def _table(self, name: str) -> Table[object]:
        if name not in self._tables:
            known = ", ".join(sorted(self._tables))
            raise NoSuchTableError(f"there is no table {name!r}; there are {known}")
        return self._tables[name]

    async def _own_part(self, task: Task, query: Query) -> Part:
        sources = task.position.sources  # before the rows: they are at least as new
        try:
            if isinstance(query, Get):
                value = read_row(task, query.table, query.key)
                rows = [] if value is None else [Row(query.key, msgspec.Raw(value), task.id)]
                return Part(task.id, self.worker, sources, rows)
            if isinstance(query, Scan):
                page, upto = await _page(task, query)
                return Part(task.id, self.worker, sources, page, upto)
            return Part(task.id, self.worker, sources, count=await _counted(task, query))
        except NotReadableError as error:
            return Part(task.id, self.worker, why=str(error))

    async def _everything(self, query: Query) -> list[Part]:
        """Return what every task says, in the tasks' order. Raises NotNowError where one says nothing."""
        silent: dict[str, str] = {}
        async with _all_at_once([self.own_parts(query), *self._ask(query, silent)]) as asked:
            answers = await asyncio.gather(*asked)
        return self._complete(query.table, [p for parts in answers for p in parts], silent)

    def _ask(self, query: Query, silent: dict[str, str]) -> list[Awaitable[list[Part]]]:
        """Return a question to each other worker that has tasks of the table.

        Who does not answer comes to `silent`, with the reason.
        """
        wanted = set(self._tasks[query.table]) - self._engine.tasks.keys()
        workers = {o.web for o in self._engine.owners if wanted & set(o.tasks)}

        async def ask(worker: str) -> list[Part]:
            try:
                return list(await self._others.parts(worker, query))
            except UnansweredError as error:
                silent[worker] = str(error)
                return []

        return [ask(worker) for worker in sorted(workers - {self.worker, ""})]

    def _complete(self, table: str, parts: Iterable[Part], silent: Mapping[str, str]) -> list[Part]:
        """Return the part of each of the table's tasks. Raises NotNowError where one is missing.

        A worker that does not know yet that it has lost a task may answer beside its new owner: the
        newer answer counts.
        """
        best: dict[str, Part] = {}
        for part in sorted(parts, key=_newness):
            best[part.task] = part
        missing = {
            task_id: self._why_missing(task_id, best.get(task_id), silent)
            for task_id in self._tasks[table]
            if task_id not in best or best[task_id].why
        }
        if missing:
            line = "; ".join(f"{task_id} {why}" for task_id, why in missing.items())
            raise NotNowError(line, why=missing)
        return [best[task_id] for task_id in self._tasks[table]]

    def _why_missing(self, task_id: str, part: Part | None, silent: Mapping[str, str]) -> str:
        if part is not None:
            return f"{part.why} ({part.worker})"
        owner = next((o.web for o in self._engine.owners if task_id in o.tasks), None)
        if owner is None:
            return "has no owner that is known yet: the group is sharing out its tasks"
        if not owner:
            return "is owned by a worker without a web view"
        if owner in silent:
            return f"cannot be read: its owner {owner} {silent[owner]}"
        return f"is not there at {owner}, where it should be: it is on its way, or HEADRACE_WEB_HOST is local"

    async def _view(self, owner: Owner) -> WorkerView:
        why = "has no web view"
        if owner.web:
            try:
                return await self._others.view(owner.web)
            except UnansweredError as error:
                why = str(error)
        return WorkerView(owner.web, [TaskView(task, "unknown") for task in owner.tasks], why)

    def _table_view(self, table: Table[object]) -> TableView:
        tasks = self._tasks[table.name]
        if isinstance(table, WindowedTable):
            return TableView(
                table.name, "windowed", tasks, table.windows.size_ms, table.windows.grace_ms
            )
        return TableView(table.name, "plain", tasks)


@contextlib.asynccontextmanager
async def _all_at_once(
    work: Iterable[Awaitable[list[Part]]],
) -> AsyncIterator[Sequence[asyncio.Future[list[Part]]]]:
    """Run all; what still runs at the end is called off."""
    running = [asyncio.ensure_future(each) for each in work]
    try:
        yield running
    finally:
        for each in running:
            each.cancel()


async def _page(task: Task, query: Scan) -> tuple[list[Row], str | None]:
    """Return a task's rows for a page; see Part.upto."""
    rows: list[Row] = []
    after, size = query.after, 0
    while chunk := read_rows(task, query.table, query.begins(), after):
        for key, value in chunk:
            if query.wants(key):
                if len(rows) == query.limit or size > _PAGE_BYTES:
                    return rows, rows[-1].key
                rows.append(Row(key, msgspec.Raw(value), task.id))
                size += len(value)
        after = chunk[-1][0]
        await asyncio.sleep(0)
    return rows, None


async def _counted(task: Task, query: Count) -> int:
    count, after = 0, None
    while chunk := read_rows(task, query.table, query.prefix, after):
        count += len(chunk)
        after = chunk[-1][0]
        await asyncio.sleep(0)
    return count


def _merged(parts: Sequence[Part], limit: int) -> tuple[list[Row], str | None]:
    """Return the first rows of all parts in key order, and where the page ends if there may be more.

    Rows of one key, in several tasks, stay on one page, which may so become a little longer.
    """
    end = min((part.upto for part in parts if part.upto is not None), default=None)
    rows: list[Row] = []
    for row in heapq.merge(*(part.rows for part in parts), key=attrgetter("key")):
        if end is not None and row.key > end:
            break
        if len(rows) >= limit and row.key != rows[-1].key:
            return rows, rows[-1].key
        rows.append(row)
    return rows, end


def _found(query: Get, parts: Iterable[Part]) -> Found | None:
    for part in parts:
        for row in part.rows:
            return Found(query.table, row.key, row.value, part.worker, part.task, part.sources)
    return None


def _answered(part: Part) -> Answered:
    return Answered(part.task, part.worker, part.sources)


def _newness(part: Part) -> tuple[bool, int]:
    return not part.why, sum(part.sources.values())
