"""What is shown of a statement, and of what the server says of it, holds no string constant."""

from __future__ import annotations

import time

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.postgres.activity import summary
from headstart.sql.constants import without_constants

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
    ],
    ids=["one", "many", "marks", "raise"],
)
def test_no_text_takes_for_ever(text: str, statement: str) -> None:
    """The time is bounded, however long statement and message are."""
    began = time.process_time()
    without_constants(text, "P0001", statement)
    summary(statement)
    assert time.process_time() - began < 2
