"""Headstart brings Postgres to `head` before the app starts."""

from __future__ import annotations

__version__ = "0.1.0"
