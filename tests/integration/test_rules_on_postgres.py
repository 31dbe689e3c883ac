"""The catalogue of risky SQL against real servers: what its examples and its claims are worth."""

from __future__ import annotations

import functools
from itertools import groupby
from typing import TYPE_CHECKING

import asyncpg
import pytest

from headstart.sql.reader import Reader
from headstart.sql.rules import RULES
from headstart.sql.rules.columns import read_type
from headstart.sql.rules.model import SHOP
from headstart.sql.rules.rewrites import _STEADY, is_loosened
from headstart.sql.tokens import tokens
from support.examples import Step, given_steps, steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from headstart.sql.rules import Rule
    from support.postgres import Postgres

# PostgreSQL manual, 'Explicit Locking', the weakest first.
MODES = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
]


# Ten times faster than a new database for each of some five hundred tests.
EMPTY = """\
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END $$;
"""


@pytest.fixture(scope="module")
def database_of() -> Callable[[Postgres], str]:
    """The database of a server that these tests use one after the other."""
    return functools.cache(lambda server: server.create_database())


@pytest.fixture
async def shop(server: Postgres, database_of: Callable[[Postgres], str]) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with the tables that the examples speak of, and nothing else."""
    connection: asyncpg.Connection = await asyncpg.connect(database_of(server))
    await connection.execute(EMPTY + SHOP)
    yield connection
    await connection.close()


async def run(connection: asyncpg.Connection, executed: Sequence[Step]) -> None:
    """Run what revisions execute, each revision in its transaction."""
    for (_, in_transaction), group in groupby(executed, lambda one: (one.revision, one.in_transaction)):
        if in_transaction:
            await connection.execute("BEGIN")
        for step in group:
            await connection.execute(step.text)
        if in_transaction:
            await connection.execute("COMMIT")


async def strongest_lock(connection: asyncpg.Connection, relation: str) -> str:
    """The strongest lock that the connection holds on a relation."""
    held = await connection.fetch(
        "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted AND relation = $1::text::regclass", relation
    )
    return max((str(row["mode"]) for row in held), key=MODES.index)


async def file_of(connection: asyncpg.Connection, relation: str) -> int:
    """The number of the file that holds a table: another one after a rewrite."""
    number: int = await connection.fetchval("SELECT pg_relation_filenode($1::text::regclass)", relation)
    return number


async def scans_of(connection: asyncpg.Connection, relation: str) -> int:
    """How often the session has read a table from one end to the other, of late."""
    number: int = await connection.fetchval("SELECT pg_stat_get_xact_numscans($1::text::regclass)", relation)
    return number


every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))


@every_rule
async def test_the_bad_example_is_sql(shop: asyncpg.Connection, rule: Rule) -> None:
    """Each bad example runs on a table with rows, or fails with the SQLSTATE that the catalogue gives."""
    await run(shop, given_steps(rule))
    bad = steps(rule.bad)
    if rule.fails:
        with pytest.raises(asyncpg.PostgresError) as failure:
            await run(shop, bad)
        assert failure.value.sqlstate == rule.fails
    else:
        await run(shop, bad)


@every_rule
async def test_the_good_example_is_sql(shop: asyncpg.Connection, rule: Rule) -> None:
    """Each good example runs on a table with rows."""
    await run(shop, given_steps(rule) + steps(rule.good))
    await shop.execute("DROP DATABASE IF EXISTS rules_of_headstart")


EXCLUSIVE = "AccessExclusiveLock"
LOCKS = {
    "index-not-concurrent": ("orders", "ShareLock"),
    "drop-index-not-concurrent": ("orders", EXCLUSIVE),
    "reindex-not-concurrent": ("ix_orders_state", EXCLUSIVE),
    "refresh-not-concurrent": ("sales", EXCLUSIVE),
    "detach-partition-not-concurrent": ("events", EXCLUSIVE),
    "foreign-key-without-not-valid": ("accounts", "ShareRowExclusiveLock"),
    "check-without-not-valid": ("orders", EXCLUSIVE),
    "domain-constraint-without-not-valid": ("orders", "ShareLock"),
    "validate-in-same-transaction": ("orders", EXCLUSIVE),
    "set-not-null-without-check": ("orders", EXCLUSIVE),
    "unique-constraint-without-index": ("accounts", EXCLUSIVE),
    "primary-key-without-index": ("orders", EXCLUSIVE),
    "exclusion-constraint": ("bookings", EXCLUSIVE),
    "attach-partition-without-check": ("events_2024", EXCLUSIVE),
    "volatile-default": ("orders", EXCLUSIVE),
    "add-serial-column": ("orders", EXCLUSIVE),
    "stored-generated-column": ("orders", EXCLUSIVE),
    "change-column-type": ("orders", EXCLUSIVE),
    "change-table-storage": ("orders", EXCLUSIVE),
    "rename-column": ("orders", EXCLUSIVE),
    "truncate": ("orders", EXCLUSIVE),
    "backfill-after-ddl": ("orders", EXCLUSIVE),
    "several-tables-locked": ("accounts", EXCLUSIVE),
    "lock-table": ("orders", EXCLUSIVE),
    "disable-trigger": ("orders", "ShareRowExclusiveLock"),
}


@pytest.mark.parametrize("rule", LOCKS)
async def test_the_lock_of_a_bad_example(shop: asyncpg.Connection, rule: str) -> None:
    """The bad example takes the lock that the catalogue speaks of, and keeps it until the transaction ends."""
    relation, mode = LOCKS[rule]
    await run(shop, given_steps(RULES[rule]))
    async with shop.transaction():
        for step in steps(RULES[rule].bad):
            await shop.execute(step.text)
        assert await strongest_lock(shop, relation) == mode


OTHER_LOCKS = {
    # what the remedies rest on
    "ALTER TABLE orders ADD FOREIGN KEY (account_id) REFERENCES accounts NOT VALID": "ShareRowExclusiveLock",
    "ALTER TABLE orders ADD CONSTRAINT u CHECK (total > 0) NOT VALID": EXCLUSIVE,
    "ALTER TABLE orders VALIDATE CONSTRAINT ck": "ShareUpdateExclusiveLock",
    "ALTER TABLE orders SET (fillfactor = 70)": "ShareUpdateExclusiveLock",
    "ALTER TABLE orders ALTER COLUMN state SET DEFAULT 'new'": EXCLUSIVE,
    "ALTER TABLE orders ADD COLUMN x int": EXCLUSIVE,
    "LOCK TABLE orders": EXCLUSIVE,
    "LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE": "ShareUpdateExclusiveLock",
    "DROP TABLE payments": EXCLUSIVE,
}


@pytest.mark.parametrize("statement", OTHER_LOCKS)
async def test_the_locks_of_other_statements(shop: asyncpg.Connection, statement: str) -> None:
    """Validating lets others read and write; dropping a table locks those that its foreign keys lead to."""
    await shop.execute(
        "ALTER TABLE orders ADD CONSTRAINT ck CHECK (total > 0) NOT VALID; ALTER TABLE orders ADD UNIQUE (id)"
    )
    await shop.execute("CREATE TABLE payments (order_id bigint REFERENCES orders (id))")
    async with shop.transaction():
        await shop.execute(statement)
        assert await strongest_lock(shop, "orders") == OTHER_LOCKS[statement]


REWRITES = ["volatile-default", "add-serial-column", "stored-generated-column", "change-column-type"]


@pytest.mark.parametrize("rule", [*REWRITES, "change-table-storage", "vacuum-full"])
async def test_a_rewrite(shop: asyncpg.Connection, rule: str) -> None:
    """The bad example writes the table anew, and the good one leaves it where it is."""
    before = await file_of(shop, "orders")
    await run(shop, steps(RULES[rule].good))
    assert await file_of(shop, "orders") == before
    await run(shop, [Step("2", "DROP VIEW IF EXISTS orders_with_tax")])
    for column in ("token", "number", "total_in_cents"):
        await shop.execute(f"ALTER TABLE orders DROP COLUMN IF EXISTS {column}")
    await run(shop, steps(RULES[rule].bad))
    assert await file_of(shop, "orders") != before


@pytest.mark.parametrize(
    "column",
    [
        "int DEFAULT 1 NOT NULL",
        "timestamptz DEFAULT now() NOT NULL",
        "timestamptz DEFAULT CURRENT_TIMESTAMP(3)",
        "timestamptz DEFAULT date_trunc('day', now()) + interval '1 day'",
        "jsonb DEFAULT jsonb_build_object('a', 1)",
        "text DEFAULT current_setting('server_version')",
        "bigint REFERENCES accounts (id)",
    ],
)
async def test_no_rewrite(shop: asyncpg.Connection, column: str) -> None:
    """A new column whose default is the same for every row costs neither a rewrite nor a scan."""
    before = await file_of(shop, "orders")
    async with shop.transaction():
        scans = await scans_of(shop, "orders")
        await shop.execute(f"ALTER TABLE orders ADD COLUMN x {column}")
        assert await file_of(shop, "orders") == before
        assert await scans_of(shop, "orders") == scans


SCANS = {
    "ALTER TABLE orders ADD CONSTRAINT u CHECK (total > 0)": True,
    "ALTER TABLE orders ADD CONSTRAINT u CHECK (total > 0) NOT VALID": False,
    "ALTER TABLE orders ADD COLUMN x int CHECK (x > 0)": True,
    "ALTER TABLE orders ADD COLUMN x bigint DEFAULT 1 REFERENCES accounts (id)": True,
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (account_id) REFERENCES accounts": True,
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (account_id) REFERENCES accounts NOT VALID": False,
    "ALTER TABLE orders ALTER COLUMN state SET NOT NULL": True,
    "ALTER TABLE orders ALTER COLUMN placed_at SET NOT NULL": False,
    "ALTER TABLE orders ALTER COLUMN account_id SET NOT NULL": True,
    "ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE > 0)": True,
    "ALTER DOMAIN amount ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID": False,
}


@pytest.mark.parametrize("statement", SCANS)
async def test_a_scan(shop: asyncpg.Connection, statement: str) -> None:
    """Every row is read unless NOT VALID puts it off, or a validated CHECK has said so already."""
    await shop.execute("CREATE DOMAIN amount AS numeric; ALTER TABLE orders ADD COLUMN fee amount")
    await shop.execute("ALTER TABLE orders ADD CONSTRAINT checked CHECK (placed_at IS NOT NULL AND id > 0)")
    await shop.execute("ALTER TABLE orders ADD CONSTRAINT unchecked CHECK (account_id IS NOT NULL) NOT VALID")
    async with shop.transaction():
        scans = await scans_of(shop, "orders")
        await shop.execute(statement)
        assert (await scans_of(shop, "orders") > scans) is SCANS[statement]


@pytest.mark.parametrize("is_checked", [True, False])
async def test_attaching_a_partition(shop: asyncpg.Connection, *, is_checked: bool) -> None:
    """Attaching reads every row of the new partition, unless a CHECK says what it holds."""
    rule = RULES["attach-partition-without-check"]
    (attach,) = steps(rule.bad)
    await run(shop, given_steps(rule))
    if is_checked:
        await shop.execute("ALTER TABLE events_2024 ADD CHECK (at >= '2024-01-01' AND at < '2025-01-01')")
    async with shop.transaction():
        scans = await scans_of(shop, "events_2024")
        await shop.execute(attach.text)
        assert (await scans_of(shop, "events_2024") == scans) is is_checked
        assert await strongest_lock(shop, "events") == "ShareUpdateExclusiveLock"


TYPES = [
    "char(3)",
    "cidr",
    "inet",
    "integer",
    "bigint",
    "interval",
    "interval(3)",
    "numeric",
    "numeric(10)",
    "numeric(10,2)",
    "numeric(12,2)",
    "numeric(12,3)",
    "text",
    "time",
    "time(3)",
    "timestamp",
    "timestamp(3)",
    "timestamptz",
    "timestamptz(3)",
    "timetz",
    "timetz(3)",
    "varbit",
    "varbit(8)",
    "varbit(9)",
    "varchar",
    "varchar(5)",
    "varchar(9)",
]


@pytest.mark.parametrize("old", TYPES)
async def test_changes_of_type(shop: asyncpg.Connection, old: str) -> None:
    """A change that the catalogue lets pass neither writes nor reads the table; any other one does."""
    await shop.execute("SET TimeZone = 'Asia/Tokyo'")  # with UTC, which is not for a revision to rely on, more is free
    await shop.execute(f"CREATE TABLE t (a {old}); INSERT INTO t VALUES (NULL)")
    before = await file_of(shop, "t")
    for new in TYPES:
        transaction = shop.transaction()
        await transaction.start()
        try:
            scans = await scans_of(shop, "t")
            await shop.execute(f"ALTER TABLE t ALTER COLUMN a TYPE {new}")
            is_free = await file_of(shop, "t") == before and await scans_of(shop, "t") == scans
        except asyncpg.DatatypeMismatchError:  # there is no cast, hence no such change
            continue
        finally:
            await transaction.rollback()
        assert is_free is is_loosened(*(read_type(Reader(list(tokens(one)))) for one in (old, new))), new


async def test_steady_functions_are_not_volatile(shop: asyncpg.Connection) -> None:
    """No function that a default may call is volatile, on any server."""
    assert (
        await shop.fetch(
            "SELECT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY($1::text[])", sorted(_STEADY)
        )
        == []
    )


async def test_if_not_exists_takes_an_invalid_index_for_a_finished_one(shop: asyncpg.Connection) -> None:
    """What a failed build leaves is passed over with IF NOT EXISTS, and replaced by the good example."""
    rule = RULES["concurrent-index-if-not-exists"]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_orders_state'::regclass"
    with pytest.raises(asyncpg.UniqueViolationError):
        await shop.execute("CREATE UNIQUE INDEX CONCURRENTLY ix_orders_state ON orders ((1))")
    await run(shop, steps(rule.bad))
    assert await shop.fetchval(valid) is False
    await run(shop, steps(rule.good))
    assert await shop.fetchval(valid) is True


async def test_json_has_no_equality(shop: asyncpg.Connection) -> None:
    """SELECT DISTINCT over the row works with the good example's jsonb, and no longer with the bad one's json."""
    rule = RULES["json-column"]
    await shop.execute(rule.good)
    await shop.execute("SELECT DISTINCT * FROM orders")
    await shop.execute("ALTER TABLE orders DROP COLUMN payload")
    await shop.execute(rule.bad)
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await shop.execute("SELECT DISTINCT * FROM orders")


async def test_a_narrow_key_ends(shop: asyncpg.Connection) -> None:
    """A serial key gives out no number beyond 31 bits, an identity of bigint does."""
    rule = RULES["narrow-primary-key"]
    beyond = "SELECT setval('visits_id_seq', 2147483647); INSERT INTO visits DEFAULT VALUES"
    await shop.execute(rule.bad)
    with pytest.raises(asyncpg.SequenceGeneratorLimitExceededError):
        await shop.execute(beyond)
    await shop.execute("DROP TABLE visits")
    await shop.execute(rule.good)
    await shop.execute(beyond)


async def test_renaming(shop: asyncpg.Connection) -> None:
    """Views survive the renaming of a column, functions do not; a view stands in for a renamed table."""
    await shop.execute("CREATE VIEW v AS SELECT state FROM orders")
    await shop.execute(
        "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT state FROM orders LIMIT 1); END'"
    )
    await shop.execute(RULES["rename-column"].bad)
    await shop.execute("SELECT * FROM v")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await shop.execute("SELECT f()")
    await shop.execute("ALTER TABLE accounts RENAME TO customers")
    with pytest.raises(asyncpg.UndefinedTableError):
        await shop.execute("SELECT * FROM accounts")
    await shop.execute("CREATE VIEW accounts AS SELECT * FROM customers")
    await shop.execute("INSERT INTO accounts VALUES (2, 'second') ON CONFLICT DO NOTHING")


async def test_renaming_an_enum_value(shop: asyncpg.Connection) -> None:
    """The old value is refused from then on."""
    rule = RULES["rename-enum-value"]
    await run(shop, given_steps(rule) + steps(rule.bad))
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await shop.execute("SELECT 'glad'::mood")
