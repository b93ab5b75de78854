"""What the documents say of the code is so: names, links, settings, topics, commands."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from commands.main import COMMANDS
from config.settings import Settings, environment_name
from streams import events, topics
from streams.engine import dead_letters
from streams.engine.batch import Failure
from streams.engine.config import RECORD_OVERHEAD_BYTES, EngineConfig
from streams.engine.definitions import Topic
from streams.engine.layout import own_topics
from streams.engine.records import Reason, Reject, TopicPartition
from streams.topology import GROUPS, TOPOLOGY
from tests.unit.wire import run_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
EVENT_PATH = (DOCS / "event-path.md").read_text(encoding="utf-8")
CONTRACT = (DOCS / "contract.md").read_text(encoding="utf-8")
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
PACKAGES = "agents|commands|config|demo|streams|tables"
NAME = re.compile(rf"`((?:{PACKAGES})(?:\.\w+)*):(\w+(?:\.\w+)*)`")
NOT_YET = "**not yet**"


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next of its level or above."""
    level = re.search(rf"^(#+) {title}$", text, re.MULTILINE)
    assert level, f"no heading {title}"
    rest = text[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def anchors(document: Path) -> set[str]:
    """Return the fragments that a document's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("module", "name"), sorted(set(NAME.findall(EVENT_PATH))))
def test_each_function_of_the_event_path_exists(module: str, name: str) -> None:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)


def test_the_event_path_names_the_code() -> None:
    assert len(set(NAME.findall(EVENT_PATH))) > 50


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target


def shown_default(field: str) -> str:
    """Return a setting's default as the table shows it."""
    default = Settings.model_fields[field].get_default(call_default_factory=True, validated_data={})
    if default in (None, ()):
        return "unset"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize("field", Settings.model_fields)
def test_each_setting_stands_in_the_contract_with_its_default(field: str) -> None:
    told = {row[0]: row[1] for row in rows(section(CONTRACT, "Settings"))}
    assert told[f"`{environment_name(field)}`"] == shown_default(field)


def test_no_other_setting_stands_in_the_contract() -> None:
    told = re.findall(r"^\| `(\w+)`", section(CONTRACT, "Settings"), re.MULTILINE)
    assert told == [environment_name(field) for field in Settings.model_fields]


def told(title: str) -> tuple[set[str], set[str]]:
    """Return the names that a section's tables tell of: what there is, and what is not yet."""
    there: set[str] = set()
    missing: set[str] = set()
    for row in rows(section(CONTRACT, title)):
        names = re.findall(r"`(?:headrace )?([^` ]+)[^`]*`", row[0])
        (missing if any(NOT_YET in cell for cell in row) else there).update(names)
    return there, missing


def test_the_contract_tells_of_each_command_that_there_is() -> None:
    there, missing = told("Commands")
    present = {n for n, lazy in COMMANDS.items() if importlib.util.find_spec(lazy.module)}
    assert (there, missing & present) == (present, set())


def test_the_contract_tells_of_each_topic_that_there_is() -> None:
    names: set[str] = set()
    changelogs: set[str] = set()
    for group in GROUPS.values():
        topology = group.of("<application id>")
        own = set(own_topics(topology, "<application id>"))
        changelogs |= {name for name in own if name.startswith("<")}
        names |= ({topic.name for topic in topology.inputs} | own) - changelogs
    text = section(CONTRACT, "Topics")
    there, missing = told("Topics")
    assert there - {"<application"} == names
    assert missing & names == set()
    assert all(f"`{changelog}`" in text for changelog in changelogs)


def test_the_contract_tells_of_each_table_that_there_is() -> None:
    there, missing = told("Tables")
    names = {table.name for topology in GROUPS.values() for table in topology.tables}
    assert (there, missing & names) == (names, set())


def tag(event: type) -> str:
    """Return the event type on the wire."""
    return str(event.__struct_config__.tag)  # type: ignore[attr-defined]


def test_the_contract_tells_of_each_event_type_and_its_data() -> None:
    declared = [topic for topic in vars(topics).values() if type(topic) is Topic]
    for event in [event for topic in declared for event in topic.events]:
        (row,) = [row for row in rows(CONTRACT) if f"`{tag(event)}`" in row[0]]
        fields = event.__annotations__["data"].__struct_fields__
        assert {field for field in fields if f"`{field}`" not in " ".join(row)} == set(), event


def test_the_contract_tells_of_each_field_of_the_envelope() -> None:
    told_fields = "".join(row[0] for row in rows(section(CONTRACT, "Events in")))
    wanted = {*events.Envelope.__struct_fields__, "event_type", "data"}
    assert {field for field in wanted if f"`{field}`" not in told_fields} == set()
    told_fields = "".join(row[0] for row in rows(section(CONTRACT, "Events out")))
    wanted = set(events.Derived.__struct_fields__)
    assert {field for field in wanted if f"`{field}`" not in told_fields} == set()


def test_the_contract_tells_of_each_reason_in_order() -> None:
    table = [row[0].strip("`") for row in rows(section(CONTRACT, "Refused"))]
    assert [name for name in table if name in set(Reason)] == list(Reason)


def test_the_contract_tells_of_each_header_of_a_dead_letter() -> None:
    source, run = TopicPartition("orders", 0), run_of(b"")
    refused = dead_letters.rejected(source, run, Reject(0, Reason.UNDECODABLE, "empty"), 1)
    failure = Failure(TOPOLOGY.flows[0], ValueError("x"))
    failed = dead_letters.failed(source, run, 0, failure, 1)
    table = [row[0].strip("`") for row in rows(section(CONTRACT, "Refused"))]
    for letter in (refused, failed):
        headers = [name for name, _ in letter.headers]
        assert [name for name in table if "." in name] == headers


def test_the_contract_tells_the_largest_event() -> None:
    limit = EngineConfig(application_id="a", data_dir=ROOT).max_record_bytes
    text = " ".join(CONTRACT.split())
    assert f"{limit:,} bytes" in text
    assert f"{limit - RECORD_OVERHEAD_BYTES:,} bytes" in text


def code_and_documents() -> list[Path]:
    """Return every Python and Markdown file below the project's folders."""
    folders = (*PACKAGES.split("|"), "tests", "docs")
    return [f for name in folders for s in ("py", "md") for f in (ROOT / name).rglob(f"*.{s}")]


def test_each_decision_that_is_pointed_at_exists_and_is_listed() -> None:
    decided = {path.name[:4]: path.name for path in (DOCS / "decisions").glob("0*.md")}
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    assert [name for name in decided.values() if f"({name})" not in index] == []
    for file in code_and_documents():
        pointed = re.findall(r"decisions?[ /](0\d{3})", file.read_text(encoding="utf-8"))
        assert set(pointed) <= decided.keys(), file


def test_each_law_that_is_pointed_at_exists() -> None:
    text = (DOCS / "laws.md").read_text(encoding="utf-8")
    laws = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    assert laws == [str(number) for number in range(1, 10)]
    for file in code_and_documents():
        pointed = re.findall(r"\b[Ll]aws? (\d+)", file.read_text(encoding="utf-8"))
        assert set(pointed) <= set(laws), file


def test_the_glossary_has_each_term_once_in_order() -> None:
    terms = [row[0].strip("*") for row in rows(GLOSSARY) if row[0].startswith("**")]
    assert terms == sorted(set(terms))
