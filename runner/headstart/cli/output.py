"""Data for stdout."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def print_json(data: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """Write data to stdout, for `jq` and its like."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data, enc_hook=str), indent=2).decode() + "\n")
