"""One of each kind of object that a schema may hold, in a script for a superuser."""

from __future__ import annotations

OBJECTS = r"""
CREATE SCHEMA raw;
CREATE SCHEMA "Odd; name";
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE address AS (street text, number int);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE DOMAIN positive AS numeric(12, 4) CHECK (VALUE > 0);
CREATE TABLE company (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol text NOT NULL UNIQUE CHECK (symbol <> ''),
    mood mood DEFAULT 'sad',
    seen timestamptz DEFAULT '2024-01-01 00:00:00+00',
    about text,
    spelled text GENERATED ALWAYS AS (upper(symbol)) STORED
);
CREATE TABLE price (company bigint REFERENCES company, day timestamptz, close positive, PRIMARY KEY (company, day))
    PARTITION BY RANGE (day);
CREATE TABLE price_2024 PARTITION OF price FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00');
CREATE TABLE raw.feed (id serial, body text, source text);
CREATE UNLOGGED TABLE raw.fast (id serial, a int) WITH (fillfactor = 70);
CREATE TABLE raw.special () INHERITS (raw.feed);
CREATE TABLE "Odd; name"."Ta""ble" ("Column; x" text, "order" int DEFAULT 1);
CREATE INDEX company_about ON company (lower(about)) WHERE mood <> 'sad';
CREATE VIEW latest AS SELECT c.symbol, p.close FROM company c JOIN price p ON p.company = c.id;
CREATE MATERIALIZED VIEW raw.summary AS SELECT c.symbol, count(*) AS days FROM company c, price p GROUP BY 1;
CREATE UNIQUE INDEX ON raw.summary (symbol);
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN RETURN NEW; END; $body$;
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a * 2';
CREATE FUNCTION twice(a text) RETURNS text LANGUAGE sql AS 'SELECT a || a';
CREATE PROCEDURE tidy(a text) LANGUAGE sql AS 'DELETE FROM price';
CREATE FUNCTION watched() RETURNS event_trigger LANGUAGE plpgsql AS $body$ BEGIN END; $body$;
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE TRIGGER touch BEFORE INSERT ON company FOR EACH ROW EXECUTE FUNCTION touched();
CREATE TRIGGER follow AFTER INSERT ON price FOR EACH ROW EXECUTE FUNCTION touched();
CREATE RULE keep AS ON DELETE TO raw.feed DO INSTEAD NOTHING;
CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION watched();
ALTER TABLE company ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON company USING (symbol <> 'x');
CREATE SEQUENCE loose START 42;
CREATE STATISTICS related ON symbol, mood FROM company;
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER wrapper OPTIONS (host 'a');
CREATE FOREIGN TABLE raw.far (a int) SERVER elsewhere OPTIONS (name 'a');
CREATE PUBLICATION news FOR TABLE raw.feed;
CREATE COLLATION exact FROM "C";
CREATE CAST (address AS text) WITH INOUT;
COMMENT ON TABLE company IS 'who';
COMMENT ON COLUMN company.symbol IS 'what';
COMMENT ON SCHEMA public IS 'everybody''s';
"""
