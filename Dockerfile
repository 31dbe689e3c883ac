# Headstart: Python, the locked packages, the clients of several Postgres majors, and nothing else, on a slim Debian.
#
#   docker build --target runner --tag headstart .          Headstart alone, without any revisions
#   docker build --target stock --tag headstart-stock .     with the reference project's, as a user would add theirs
#
#   --build-arg POSTGRES_MAJORS="16 17"     whose pg_dump, pg_restore and psql are in it
#   --build-arg POSTGRES_FROM=debian        Debian's own packages instead of the Postgres project's; DEBIAN_RELEASES="bookworm"
#                                           names further releases in which older majors are found
#   --build-arg SOURCE_DATE_EPOCH=...       the time of every file, in seconds
#   --secret id=ca,src=ca.crt               certificates to trust while building, where a proxy wants that
ARG BASE=debian:trixie-slim

# What is there already is not copied again.
# hadolint ignore=DL3006
FROM ${BASE} AS base

# hadolint ignore=DL3006
FROM ${BASE} AS parts
ARG POSTGRES_MAJORS="14 15 16 17 18"
ARG POSTGRES_FROM=pgdg
ARG DEBIAN_RELEASES=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY tools/image/postgres-clients.sh /build/tools/image/
# The newest that the release has: what the bill of materials then says is what was taken. Debian's drivers use the libpq
# of its clients, where those of PyPI each bring one of their own.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends binutils ca-certificates python3 python3-venv \
        python3-psycopg python3-psycopg-c python3-psycopg2 \
    && /build/tools/image/postgres-clients.sh "$POSTGRES_FROM" "$POSTGRES_MAJORS" "$DEBIAN_RELEASES" \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv /venv \
    && /venv/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements-build.lock \
    && /venv/bin/pip install --quiet --no-cache-dir --no-compile --require-hashes --target /packages -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY runner runner
RUN rm -rf /packages/bin \
    && /venv/bin/pip install --quiet --no-cache-dir --no-compile --no-deps --no-build-isolation --target /packages .
COPY docker-entrypoint.sh ./
COPY tools/image/assemble.py tools/image/bom.py tools/image/
ARG SOURCE_DATE_EPOCH=1767225600
RUN --mount=type=bind,from=base,target=/base \
    python3 -B tools/image/assemble.py --base /base --packages /packages --out /out

# hadolint ignore=DL3006
FROM ${BASE} AS runner
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Headstart" \
      org.opencontainers.image.description="Brings Postgres to head before the app starts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=parts /out /
# container: how Headstart knows that it is in its image. HOME: any user has a place to write.
ENV container=headstart HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /project
USER 65532:65532
# Python listens for SIGTERM before it imports anything else, and needs no init above it.
STOPSIGNAL SIGTERM
# What is in the image can be run at all: every client, every compiled module and driver, the entrypoint.
RUN --mount=type=tmpfs,target=/tmp \
    for program in /usr/lib/postgresql/*/bin/*; do "$program" --version || exit 1; done \
    && python3 -c 'import asyncpg.protocol.protocol, greenlet, msgspec, sqlalchemy.ext.asyncio, alembic.command, ssl, zoneinfo' \
    && python3 -c 'import psycopg2.extras, psycopg, psycopg_c.pq, psycopg_c._psycopg' \
    && docker-entrypoint.sh --version
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["up"]

# A user's own image looks like this: FROM headstart, and their project.
FROM runner AS stock
COPY alembic.ini ./
COPY migrations migrations
