"""A database's schema, read from Postgres' own catalog, and how two of them differ.

Alembic's comparison does not see views, functions, triggers, enum labels and much else; this does. One source reads the
same on every major version, but for views, rules and functions whose text Postgres itself spells otherwise: before 16
it qualifies the columns of a view over one table.

`schema` reads, with the SQL of `queries`; `compare` compares. Begin with `schema`.
"""

from headstart.postgres.catalog.compare import Difference, differences
from headstart.postgres.catalog.schema import Catalog, read

__all__ = ["Catalog", "Difference", "differences", "read"]
