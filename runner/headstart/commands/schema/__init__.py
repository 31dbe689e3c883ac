"""The schema at head as files, for reading, for review, and for an empty database.

What comes in: the revisions, or a schema file that is there. What goes out: files. `dump` writes the schema from a
replay of all revisions, `parts` splits it into several files, `load` brings an empty database to head by it. `up` loads
the file too: what is common to both is in `steps/schema_file.py`.

Begin with `dump`.
"""
