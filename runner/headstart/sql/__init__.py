"""What can be found out about SQL without a server: where a statement ends, what kind it is, and which risk it carries.

`tokens` has the lexical rules, `script` splits a text into statements, `reader` reads the words of one, `rules` is the
catalogue of risky changes.

Begin with `script`.
"""
