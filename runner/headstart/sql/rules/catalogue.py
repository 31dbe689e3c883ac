"""All rules, in the order in which they are shown."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from headstart.sql.rules import breaking, constraints, indexes, rewrites, transactions, types
from headstart.sql.rules.model import SHOP, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUPS = (
    ("Indexes, views and partitions", indexes.RULES),
    ("Constraints", constraints.RULES),
    ("Rewrites", rewrites.RULES),
    ("Running code", breaking.RULES),
    ("Transactions and rows", transactions.RULES),
    ("Types", types.RULES),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.id: rule for _, group in _GROUPS for rule in group})
"""Every rule by its id."""

_HEAD = f"""\
{len(RULES)} kinds of SQL that lock out others, rewrite tables, break the code that is still running, or fail on real
data. `headstart check` runs the revisions on a scratch server and judges each statement that they executed on the way
up: SQL that an `op.` call made, and SQL that a file or a loop in the revision put together. Changes to a table that the
same revision creates are not reported.

A rule refuses (exit code 80), or warns, which does not fail the check.

To allow one in a revision, say why in a comment anywhere in its file. It holds for the whole file:

```python
# headstart: allow drop-column: no release since 2.4 reads it
```

Several rules may stand there with commas between them. A comment without a reason (`allow-without-reason`), of a rule
that does not exist (`allow-unknown`), that cannot be read (`allow-unreadable`), or that nothing in the file needs
(`allow-unused`) is refused itself. To switch a rule off for the whole project, say why in `pyproject.toml`:

```toml
[tool.headstart.check]
rules-off = {{ narrow-primary-key = "no table here outgrows 32 bits" }}
```

Not judged: SQL that the server itself puts together (`DO` blocks, functions, `EXECUTE`).

The examples use these tables, which exist before and have rows. `-- next revision` begins the revision after,
`-- autocommit` what stands in `with op.get_context().autocommit_block():`.

```sql
{SHOP.rstrip()}
```
"""


def as_markdown() -> str:
    """The catalogue as a page, without its title."""
    lines = [_HEAD]
    for title, group in _GROUPS:
        lines.append(f"## {title}\n")
        lines += [section(rule) for rule in group]
    return "\n".join(lines)


def section(rule: Rule) -> str:
    """What the page says of one rule."""
    ends = f", which fails with SQLSTATE {rule.fails}" if rule.fails else ""
    given = f"\nGiven:\n\n{_sql(rule.given)}" if rule.given else ""
    return f"""\
### `{rule.id}`

{"Refuses" if rule.severity == "refuse" else "Warns"}: {rule.condition}

{rule.effect}

Instead: {rule.remedy}
{given}
Bad{ends}:

{_sql(rule.bad)}
Good:

{_sql(rule.good)}"""


def _sql(text: str) -> str:
    return f"```sql\n{text.rstrip()}\n```\n"
