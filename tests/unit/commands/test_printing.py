from __future__ import annotations

import pytest

from commands.printing import counted, in_order, print_table, printable, shown, time_text


def test_without_a_terminal_numbers_stand_right_and_texts_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(
        ("topic", "records", "seconds", "why"),
        [("orders", 12_345, 1.26, ""), ("a\x1b[2Jb", None, 0.0, "late")],
    )
    assert capsys.readouterr().out.splitlines() == [
        "topic      records  seconds  why",
        "orders      12,345      1.3",
        r"a\x1b[2Jb        -      0.0  late",
    ]


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("topic", "records"), [])
    assert capsys.readouterr().out == "topic  records\n"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("Zoë 🛒", "Zoë 🛒"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b", r"\x9b"),
    ],
)
def test_nothing_that_moves_a_cursor_is_printed(text: str, harmless: str) -> None:
    assert printable(text) == harmless


@pytest.mark.parametrize(
    ("data", "longest", "text"),
    [
        (None, None, "null"),
        (b"\xffabc", None, r"\xffabc"),
        (b"abcdef", 4, "abc…"),
        (b"abcd", 4, "abcd"),
    ],
)
def test_bytes_are_shown_on_one_line(data: bytes | None, longest: int | None, text: str) -> None:
    assert shown(data, longest) == text


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(1_763_715_600_007, "2025-11-21T09:00:00.007Z"), (-1, "-"), (2**62, "-")],
)
def test_a_time_is_rfc_3339_in_utc(time_ms: int, text: str) -> None:
    assert time_text(time_ms) == text


def test_one_is_no_plural_and_thousands_are_set_apart() -> None:
    assert [counted(n, "record") for n in (0, 1, 2_000)] == [
        "0 records",
        "1 record",
        "2,000 records",
    ]


def test_offsets_stand_in_the_order_of_the_inputs() -> None:
    offsets = {"orders": 1, "elsewhere": 2, "users": 3}
    assert list(in_order(offsets, ["users", "gone", "orders"])) == ["users", "orders", "elsewhere"]
