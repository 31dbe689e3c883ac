"""What is served: `GET /health`, and `POST /signals`, which writes what a strategy concluded, once.

The table is the reference project's own: services import it, and none of them creates one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
import sqlalchemy as sa
from migrations.schema import signals
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import headstart

HEALTH_SECONDS = 2.0
LARGEST_BODY = 64 * 1024

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=50)]


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a strategy concluded from one candle. The database's own constraints have the last word."""

    strategy: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    exchange: Name
    symbol: Name
    timeframe: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    action: Literal["BUY", "SELL", "HOLD"]
    confidence: Decimal
    price_ref: Decimal | None = None
    indicators: dict[str, Any] = {}
    meta: dict[str, Any] = {}


# The table's natural key: a strategy says one thing about one candle.
KEY = ("strategy", "exchange", "symbol", "timeframe", "timestamp")


async def health(request: Request) -> JSONResponse:
    """200 and the revision that the database is at; 503 where it does not answer, or holds none."""
    engine: AsyncEngine = request.state.engine
    try:
        async with asyncio.timeout(HEALTH_SECONDS), engine.connect() as connection:
            rows = await connection.execute(sa.text("select version_num from alembic_version order by 1"))
            revisions = list(rows.scalars())
    except (OSError, sa.exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return JSONResponse({"status": "unavailable", "error": type(error).__name__}, 503)
    if not revisions:
        return JSONResponse({"status": "unavailable", "error": "no revision is recorded"}, 503)
    return JSONResponse({"status": "ok", "revision": ",".join(revisions)})


async def write(request: Request) -> JSONResponse:
    """201 for a signal that is new, 200 for one that is there already: whoever is unsure may send it again."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return JSONResponse({"error": f"a signal has at most {LARGEST_BODY} bytes"}, 413)
    try:
        signal = msgspec.json.decode(body, type=Signal)
    except msgspec.MsgspecError as error:
        return JSONResponse({"error": str(error)}, 422)
    statement = (
        insert(signals)
        .values(msgspec.structs.asdict(signal))
        .on_conflict_do_nothing(index_elements=list(KEY))
        .returning(signals.c.id)
    )
    engine: AsyncEngine = request.state.engine
    try:
        async with engine.begin() as connection:
            written = (await connection.execute(statement)).scalar_one_or_none()
    except (OSError, sa.exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
        if sqlstate.startswith(("22", "23")):  # data exception, integrity constraint violation: the sender's to mend
            return JSONResponse({"error": "the database refuses these values", "sqlstate": sqlstate}, 422)
        return JSONResponse({"error": "the database is not available", "sqlstate": sqlstate}, 503)
    return JSONResponse({"written": written is not None}, 201 if written is not None else 200)


def application(environ: Mapping[str, str]) -> Starlette:
    """Make the service. It connects when it is first asked something.

    Args:
        environ: says where the database is, in any spelling that Headstart takes.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, AsyncEngine]]:
        engine = headstart.engine_from(environ, pool_timeout=5)
        try:
            yield {"engine": engine}
        finally:
            await engine.dispose()

    routes = [Route("/health", health, methods=["GET"]), Route("/signals", write, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)
