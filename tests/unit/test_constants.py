"""What is shown of a statement, and of what the server says of it, holds no string constant."""

from __future__ import annotations

import time
import uuid
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.postgres.activity import summary
from headstart.sql.constants import without_constants

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "tok-S3cr3t"
relaxed = hypothesis.settings(deadline=None)  # a busy machine is not slow code


@pytest.mark.parametrize(
    ("text", "sqlstate", "statement"),
    [
        (f'program "false -H "Bearer {TOKEN}"" failed', "38000", f"copy t from program 'false -H \"Bearer {TOKEN}\"'"),
        (f"bad token {TOKEN}", "P0001", f"select f('{TOKEN}')"),
        (f"bad token {TOKEN}", "P0001", f"do $$begin raise exception 'bad token %', '{TOKEN}'; end$$"),
        (f"Failing row contains ({TOKEN}).", "44000", f"insert into v values ('{TOKEN}')"),
        (f'could not open file "/path/{TOKEN}" for reading', "58P01", f"copy t from '/path/{TOKEN}'"),
        (f'relation "{TOKEN}" does not exist', "42P01", f"select nextval('{TOKEN}')"),
        ('no such role "tokS3cr3t"', "P0001", "select f('tokS3cr3t')"),
        (TOKEN, "P0001", f"do $$begin raise 'a'; update t set hint = '{TOKEN}'; end$$"),
        (f"expected a number, got {TOKEN!r}", None, f"select '{TOKEN}'"),
        (f"Failing row contains (1, {TOKEN * 6}...).", "23514", f"insert into t values (1, '{TOKEN * 9}')"),
        (f'value "{TOKEN}"', "22023", "select 'tok-'\n'S3cr3t'"),
        (f'value "{TOKEN}"', "22023", r"select E'tok\x2dS3\143r3t'"),
        (f"value {TOKEN}", "22023", r"select E'tok\x2dS3\143r3t'"),
        (f"value {TOKEN}", "22023", r"select U&'tok\002DS3cr3t'"),
        (f"value {TOKEN}", "22023", "select U&'tok!002DS3cr3t' uescape '!'"),
        (f"value '{TOKEN}, it said", "22023", rf"select '\'{TOKEN}, it said', 'a'"),
    ],
)
def test_in_the_server_s_words(text: str, sqlstate: str | None, statement: str) -> None:
    """A constant is not shown whatever the error is, however it is written, and where the server has cut it."""
    shown = without_constants(text, sqlstate, statement)
    assert "S3cr3t" not in shown
    assert "..." in shown


@pytest.mark.parametrize(
    ("text", "sqlstate", "statement"),
    [
        ('relation "users_id_seq" does not exist', "42P01", "select nextval('users_id_seq')"),
        ("permission denied for sequence users_id_seq", "42501", "select nextval('users_id_seq')"),
        ('null value in column "name" of relation "users"', "23502", "insert into users (name) values ('users')"),
        ('relation "orders" does not exist', "42P01", "do $$begin delete from orders where a = 'abc'; end$$"),
        ('table "orders" has 12 rows', "P0001", """do $$begin raise exception 'table "orders" has % rows', n; end$$"""),
        ("stop: it's full", "P0001", "do $$begin raise exception using message = 'stop: it''s full'; end$$"),
        ("ask the owner", "P0001", "do $$begin raise 'no; %', n using hint = 'ask the owner', detail := 'x'; end$$"),
        ("an inactive row", "22000", "select 'active'"),
        (
            "syntax error at end of input",
            "42601",
            "select 'end', 'of'  from t as syntax, at, error, input, of, \"end\"",
        ),
    ],
)
def test_what_stays(text: str, sqlstate: str, statement: str) -> None:
    """Names, what RAISE was written to say, and words that only have a constant in them."""
    assert without_constants(text, sqlstate, statement) == text


@relaxed
@given(
    st.text(st.sampled_from("ab'\\\"$%.( \nä"), max_size=12).map(lambda text: f"<{text}>{TOKEN}"),
    st.sampled_from(["38000", "P0001", "44000", "22P02", "58P01", "42704", None]),
    st.sampled_from(["{}", '"{}"', "row ({})", "a '{}' b", 'role "{}"', "x{}x"]),
)
def test_any_constant(value: str, sqlstate: str | None, said: str) -> None:
    """Whatever characters it has, a constant is not shown; nor is a parameter."""
    quoted = value.replace("'", "''")
    assert TOKEN not in without_constants(said.format(value), sqlstate, f"select f('{quoted}')")
    assert TOKEN not in without_constants(said.format(value), sqlstate, "select f($1)", [value])


@pytest.mark.parametrize("escapes", [True, False], ids=["standard_conforming_strings off", "on"])
@relaxed
@given(st.lists(st.text(st.sampled_from("a'\\ ,"), max_size=6), min_size=1, max_size=4))
@example(["\\", "' "])
def test_whatever_the_setting_is(escapes: bool, values: list[str]) -> None:
    """Where a backslash may hide a quotation mark, or not, nothing is shown that is a constant under either reading."""
    values = [f"{value}Z9{value}" for value in values]
    written = [
        each.replace("\\", "\\\\").replace("'", "\\'") if escapes else each.replace("'", "''") for each in values
    ]
    shown = summary("select " + ", ".join(f"'{each}'" for each in written))
    assert "Z9" not in shown
    assert shown.startswith("select '...'")


def test_a_backslash_before_a_quotation_mark() -> None:
    """The statement is cut there, and nowhere else."""
    assert summary(r"select '\' S3cr3t ', ''") == "select '...' ..."
    assert summary(r"select 'C:\', a") == "select '...' ..."
    assert summary(r"select 'C:\x', E'\'', 'C:\\', a") == "select '...', '...', '...', a"


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("a" * 1_000_000, f"select '{'a' * 1_000_000}'"),
        ("aaaa " * 100_000, "select '" + "aaaa', '" * 100_000 + "'"),
        ('"' * 200_000, "select '" + "\\" * 200_000 + "'"),
        ("raise '" * 100_000, "do $$" + "raise 'a%" * 100_000 + "$$"),
        ("=(" + '"a", ' * 100_000 + ")", "select '" + "b" * 1_000_000 + "'"),
        ("a", "".join(f"'\\' $a{number}$ " for number in range(10_000))),
    ],
    ids=["one", "many", "marks", "raise", "shown", "nested"],
)
def test_no_text_takes_for_ever(text: str, statement: str) -> None:
    """The time is bounded, however long statement and message are."""
    began = time.process_time()
    without_constants(text, "P0001", statement)
    summary(statement)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "statement",
    [
        lambda count: "insert into t values " + ", ".join(f"('user{n}@example.org')" for n in range(count)),
        lambda count: "select " + r"'\'" * count,
        lambda count: "select " + "'a'\n" * count,
    ],
    ids=["rows", "backslashes", "continued"],
)
def test_twice_the_text_takes_twice_the_time(statement: Callable[[int], str]) -> None:
    """What is read of a statement is read once, however many constants it has."""

    def seconds(count: int) -> float:
        text = statement(count)
        began = time.process_time()
        without_constants("an error", "23505", text)
        return time.process_time() - began

    least = {count: min(seconds(count) for _ in range(3)) for count in (80, 640)}
    assert least[640] < 8 * 3 * least[80]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (uuid.UUID(int=2**127 + 1), "80000000-0000-0000-0000-000000000001"),
        (date(1984, 6, 21), "1984-06-21"),
        (Decimal("98765.43"), "98765.43"),
        (b"S3cr3t", r"\x533363723374"),
        (491701234567, "491701234567"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_parameters_of_any_type(value: object, shown: str) -> None:
    """A parameter is not shown, whatever its type: as the server writes it."""
    text = "Key (token)=({}) already exists."
    assert without_constants(text.format(shown), "23505", "insert into t values ($1)", [value]) == text.format("...")


@pytest.mark.parametrize("value", [1, True, None, 2026])
def test_parameters_that_say_nothing(value: object) -> None:
    """Small numbers, booleans and NULL stay: they are ids, counts and years."""
    text = f"Key (a)=({value}) already exists."
    assert without_constants(text, "23505", "insert into t values ($1)", [value]) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Key (email)=(user1150@example.org) already exists.", "Key (email)=(...) already exists."),
        ("Key (id, name)=(7, O'Brien, b) already exists.", "Key (id, name)=(7, ..., b) already exists."),
        ("Failing row contains (8, tail-S3cr3t).", "Failing row contains (8, ...)."),
        ('invalid input for type integer: "user1199@example.org"', 'invalid input for type integer: "..."'),
        ('relation "users" does not exist', 'relation "users" does not exist'),
    ],
)
def test_the_rest_of_a_long_statement(text: str, shown: str) -> None:
    """A constant is not shown wherever it stands in a statement, and be it beyond what is read of it."""
    rows = ", ".join(f"({number}, 'user{number}@example.org')" for number in range(1200))
    statement = f"insert into users values {rows}, (7, 'O''Brien'), (8, 'tail-S3cr3t')"
    assert len(statement) > 20_000
    assert without_constants(text, "23505", statement) == shown
