"""The list of tenants: read, shared out, and put into connections."""

from __future__ import annotations

import re

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.commands.tenants.lock import gate_of, work_of
from headstart.commands.tenants.targets import (
    Entry,
    Target,
    read_lines,
    share_of,
    split_canary,
    variables_of,
    with_search_path,
)
from headstart.errors import ConfigurationError
from headstart.log.secret import Secret
from headstart.settings.dsn import Dsn
from headstart.settings.table import SETTINGS

relaxed = hypothesis.settings(deadline=None)  # a busy machine is not slow code
DSN = Dsn(hosts=(("db", 5432),), user="app", password=Secret("ZqX"), database="app", params={"sslmode": "prefer"})
names = st.text(min_size=1, max_size=12)


def targets(*given: str) -> list[Target]:
    """Tenants of these names."""
    return [Target(name=name, dsn=DSN) for name in given]


class TestLines:
    """A list of tenants, as a file has it."""

    def test_a_name_a_url_or_both(self) -> None:
        """A line is a name, a URL, or a name with its URL; blank lines and comments are passed over."""
        text = "# ours\n\nacme\n  Big Corp \npostgresql://u:p@h/d\neu-1  postgres://u@h/d\nü ber postgresql+asyncpg://h/x\n"
        assert read_lines(text) == [
            Entry("HEADSTART_TENANTS_FILE line 3", "acme"),
            Entry("HEADSTART_TENANTS_FILE line 4", "Big Corp"),
            Entry("HEADSTART_TENANTS_FILE line 5", "", "postgresql://u:p@h/d"),
            Entry("HEADSTART_TENANTS_FILE line 6", "eu-1", "postgres://u@h/d"),
            Entry("HEADSTART_TENANTS_FILE line 7", "ü ber", "postgresql+asyncpg://h/x"),
        ]

    @pytest.mark.parametrize("line", ["postgres//u:ZqX@h/d", "host=h password=ZqX", "acme mysql://u:ZqX@h/d"])
    def test_what_may_be_a_url_is_not_quoted(self, line: str) -> None:
        """A line that could be a URL that came apart is told by its number alone."""
        (entry,) = read_lines(line)
        assert "ZqX" not in entry.label
        assert Entry("row 1", "acme").label == "row 1 ('acme')"


class TestShares:
    """Who does what."""

    @relaxed
    @given(st.lists(names, unique=True, max_size=40), st.integers(1, 9))
    def test_each_is_in_exactly_one(self, listed: list[str], count: int) -> None:
        """All shares together are the list, and no tenant is in two of them."""
        parts = [share_of(targets(*listed), (index, count), {}) for index in range(count)]
        assert sorted(one.name for part in parts for one in part) == sorted(listed)

    @relaxed
    @given(st.lists(names, unique=True, max_size=20), names, st.integers(1, 9))
    def test_a_newcomer_moves_nobody(self, listed: list[str], new: str, count: int) -> None:
        """A tenant's share depends on nothing but its name."""
        for index in range(count):
            before = {one.name for one in share_of(targets(*listed), (index, count), {})}
            after = {one.name for one in share_of(targets(new, *listed), (index, count), {})}
            assert before - {new} == after - {new}

    def test_the_index_of_a_job(self) -> None:
        """JOB_COMPLETION_INDEX says which share it is where the setting does not."""
        listed = targets(*map(str, range(20)))
        assert share_of(listed, (None, 4), {"JOB_COMPLETION_INDEX": "2"}) == share_of(listed, (2, 4), {})
        assert share_of(listed, None, {"JOB_COMPLETION_INDEX": "2"}) == listed

    @pytest.mark.parametrize("environ", [{}, {"JOB_COMPLETION_INDEX": "4"}, {"JOB_COMPLETION_INDEX": "x"}])
    def test_an_index_that_is_none(self, environ: dict[str, str]) -> None:
        """Without a number below the count nothing is done."""
        with pytest.raises(ConfigurationError, match="set the Job's completions to 4"):
            share_of(targets("a"), (None, 4), environ)

    @pytest.mark.parametrize("text", ["", "0", "4/4", "-1/4", "1/", "a/b", "1.5"])
    def test_no_share(self, text: str) -> None:
        """A share that cannot be is a problem of the setting."""
        (setting,) = [one for one in SETTINGS if one.name == "HEADSTART_TENANTS_SHARE"]
        with pytest.raises(ValueError, match="is no share"):
            setting.parse(text)
        assert (setting.parse("3/4"), setting.parse(" 4 ")) == ((3, 4), (None, 4))


class TestCanary:
    """Who goes first."""

    @pytest.mark.parametrize(
        ("canary", "first"), [(None, []), ("0", []), ("2", ["c", "b"]), ("a", ["a"]), ("9", ["c", "b", "9", "a"])]
    )
    def test_by_number_or_name(self, canary: str | None, first: list[str]) -> None:
        """A number is how many of the list, unless a tenant has that name; the order stays."""
        listed = targets("c", "b", *(["9"] if canary == "9" else []), "a")
        expected = ["9"] if canary == "9" else first
        ahead, rest = split_canary(listed, canary)
        assert [one.name for one in ahead] == expected
        assert [one.name for one in rest] == [one.name for one in listed if one.name not in expected]

    def test_nobody(self) -> None:
        """A name that is not listed is a problem."""
        with pytest.raises(ConfigurationError, match="'x' is neither a number nor one of the tenants"):
            split_canary(targets("a"), "x")


class TestSearchPath:
    """A schema in a connection."""

    @relaxed
    @given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=3))
    def test_the_server_reads_the_same_names(self, schemas: list[str]) -> None:
        """Taken apart as the server does it, the option holds the names that were put in."""
        options = with_search_path(DSN, schemas).params["options"]
        words = [
            re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
            for word in re.findall(r"(?:\\.|[^\s\\])+", options, re.DOTALL)
        ]
        assert words[0] == "-c"
        (setting,) = words[1:]
        quoted = re.findall(r'"((?:[^"]|"")*)"', setting.removeprefix("search_path="))
        assert [name.replace('""', '"') for name in quoted] == schemas

    def test_other_options_stay(self) -> None:
        """What the URL asks for besides is kept."""
        dsn = with_search_path(Dsn(hosts=DSN.hosts, user="u", database="d", params={"options": "-c jit=off"}), ["a b"])
        assert dsn.params["options"] == '-c jit=off -c search_path="a\\ b"'


def test_no_two_tenants_have_the_same_lock() -> None:
    """Each schema has two keys of its own."""
    keys = {key(name) for key in (gate_of, work_of) for name in ("a", "A", "b", 'a"', "schema a")}
    assert len(keys) == 10


class TestVariables:
    """What env.py finds in its environment."""

    def test_a_database(self) -> None:
        """DATABASE_URL and PG* lead to the tenant's database; all else that leads anywhere is taken away."""
        environ = {"PATH": "/bin", "PGHOSTADDR": "10.0.0.1", "PGOPTIONS": "-c x=y", "DATABASE_URL_FILE": "/run/url"}
        tenant = Target(name="a", dsn=DSN.with_database("a b"))
        assert variables_of(tenant, environ) == {
            "PGHOSTADDR": None,
            "PGOPTIONS": None,
            "DATABASE_URL_FILE": None,
            "DATABASE_URL": "postgresql://app:ZqX@db:5432/a%20b",
            "PGHOST": "db",
            "PGPORT": "5432",
            "PGUSER": "app",
            "PGPASSWORD": "ZqX",
            "PGDATABASE": "a b",
            "PGSSLMODE": "prefer",
        }

    def test_a_schema(self) -> None:
        """The URL is everybody's; PGOPTIONS leads into the schema."""
        tenant = Target(name="a", dsn=with_search_path(DSN, ["a"]), schema="a")
        assert variables_of(tenant, {"DATABASE_URL": "x"}) == {"PGOPTIONS": '-c search_path="a"'}
