from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING

import pytest

from headstart.postgres.embedded import installations
from support.postgres import script
from support.scripts import script_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from headstart.postgres.embedded import Installation
    from support.postgres import Postgres

CLIENTS = installations()
# pg_dump refuses a server newer than itself, and no server is promised to read the dump of a newer one.
COMBINATIONS = [
    (source, client, target)
    for source, client, target in itertools.product(CLIENTS, repeat=3)
    if source.major <= min(client.major, target.major)
]


SOURCE = r"""
CREATE TYPE mood AS ENUM ('sad', 'it''s; fine', 'C:\');
CREATE DOMAIN positive AS numeric(12, 4) CHECK (VALUE > 0);
CREATE SCHEMA "Odd; name";
CREATE TABLE company (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol text NOT NULL UNIQUE CHECK (symbol <> ';'),
    mood mood DEFAULT 'sad',
    about jsonb DEFAULT '{"a": "\\;"}',
    raw bytea,
    tags text[] DEFAULT ARRAY['a;b', 'c''d'],
    spelled text GENERATED ALWAYS AS (upper(symbol)) STORED
);
COMMENT ON TABLE company IS E'Several lines;\nCOPY company FROM stdin;\n\\.\n-- it''s /* all */ $$text$$';
CREATE TABLE price (company bigint REFERENCES company, day date, close positive, PRIMARY KEY (company, day))
    PARTITION BY RANGE (day);
CREATE TABLE price_2024 PARTITION OF price FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "Odd; name"."Ta""ble" ("Column; x" text, "order" int DEFAULT 1);
CREATE INDEX ON company (lower(symbol)) WHERE mood <> 'sad';
CREATE VIEW latest AS
    SELECT c.symbol, CASE WHEN p.close > 1 THEN ';' END AS "end"
    FROM company c LEFT JOIN price p ON p.company = c.id;
CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS number, ';' AS note FROM price;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
COPY company FROM stdin;
  IF NEW.symbol = $$a;b$$ THEN RAISE NOTICE 'x;'; END IF;
  RETURN NEW;
END; $body$;
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a * 2;
CREATE FUNCTION named(a int, OUT b text) RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN a > 1 THEN 'many;' ELSE (CASE WHEN true THEN 'END' END) END;
    SELECT symbol AS "case" FROM company WHERE id = a;
END;
CREATE PROCEDURE tidy(a text) LANGUAGE sql
BEGIN ATOMIC
    DELETE FROM price WHERE close > 5;
    DELETE FROM company WHERE symbol = a;
END;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON company
    FOR EACH ROW WHEN (NEW.symbol = 'a;b') EXECUTE FUNCTION touched();
CREATE RULE keep AS ON DELETE TO "Odd; name"."Ta""ble" DO INSTEAD
    (SELECT 1; UPDATE company SET symbol = ';' WHERE false);
ALTER TABLE company ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON company USING (symbol <> 'a;b');
CREATE SEQUENCE loose START 42;
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
INSERT INTO company (symbol, mood, raw)
    SELECT 'S' || n || E';\t\n\\.\n''$$é', 'C:\', '\x5c2e0a' FROM generate_series(1, 400) n;
INSERT INTO company (symbol, mood) VALUES ('COPY x FROM stdin;', NULL);
INSERT INTO price SELECT id, '2024-02-01', id FROM company;
INSERT INTO "Odd; name"."Ta""ble" VALUES (NULL, 2), (E'\\N', 3), (E'\\.', 4), ('', 5);
REFRESH MATERIALIZED VIEW summary;
SELECT setval('loose', 77);
"""


def dump(client: Installation, url: str, *options: str) -> str:
    """The output of pg_dump."""
    done = subprocess.run(
        [client.bindir / "pg_dump", "--no-owner", "--no-privileges", *options, url],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def comparable(schema: str) -> str:
    """A dump without what differs from one run or server to the next."""
    return "\n".join(line for line in schema.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict")))


@pytest.mark.parametrize(
    "options", [(), ("--inserts",), ("--inserts", "--rows-per-insert=50", "--quote-all-identifiers")]
)
@pytest.mark.parametrize(("source", "client", "target"), COMBINATIONS, ids=lambda one: str(one.major))
async def test_a_whole_pg_dump_file_is_replayed(
    shared_servers: Callable[[Installation], Postgres],
    source: Installation,
    client: Installation,
    target: Installation,
    options: tuple[str, ...],
) -> None:
    """What pg_dump wrote, of any version and in either form, becomes the same schema and the same rows again."""
    database = shared_servers(source).create_database()
    script(database, SOURCE)
    text_of_dump = dump(client, database, *options)
    other = shared_servers(target)
    url = other.create_database()
    engine = script_engine(url, statement_cache_size=0)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(text_of_dump)
    await engine.dispose()
    for what in (("--schema-only",), ("--data-only", "--inserts")):
        assert comparable(dump(CLIENTS[0], url, *what)) == comparable(dump(CLIENTS[0], database, *what))
    other.drop_database(url)
    shared_servers(source).drop_database(database)
