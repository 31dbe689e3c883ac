"""A type for what must not be shown, and the filter for text that may hold it all the same.

`Secret` keeps a value out of `repr`, `str`, f-strings, pickles and JSON. `Redactor` is for text that somebody else
wrote: a server's message, a child's stderr, an exception of env.py. It does not guess what a password looks like: it
knows the values, and every way in which a character of them can be written in such a text. Of the passwords of other
servers it knows where they stand: in a URL's userinfo, and after `password=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final, NoReturn

STARS: Final = "***"
_SHORT: Final = 3  # a secret shorter than this is hidden only where it stands alone: "a" is in every word


class Secret:
    """A string that shows itself only when asked to by name.

    Args:
        value: the secret; `reveal()` gives it back.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return STARS

    def __format__(self, spec: str) -> str:
        return format(STARS, spec)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        message = "a Secret is not pickled: it would be written out in the clear"
        raise TypeError(message)


class Redactor:
    r"""Replaces known secrets by stars, in whatever spelling they stand in a text, and whatever stands as a password.

    Each character may stand as itself, percent-encoded (`%40`, `%c3%a9`, a `+` for a blank, its `%` doubled for
    configparser or encoded again), escaped for JSON or by `repr` (`\n`, `\u00e9`, `\xe9`), with backslashes before it
    (passfile, conninfo, shell) or doubled (SQL's quotes): any mixture of these is found, without a list of mixtures.

    Args:
        secrets: the values; empty ones are ignored, those below three characters are hidden only as separate words.
        names: what is no secret, though a secret be the same word: of the database, the role, folders. A folder is
            kept with what lies in it.
    """

    def __init__(self, secrets: Iterable[str], names: Iterable[str] = ()) -> None:
        self._needles: list[str] = []
        self._names = sorted({*_OWN_NAMES, *names} - {"", "/"}, key=lambda name: (-len(name), name))
        self._patterns: dict[bool, re.Pattern[str]] = {}  # compiled when needed: that takes longer than many a search
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """From now on replace these, too."""
        known = {*self._needles, *(secret for secret in secrets if secret)}
        self._needles = sorted(known, key=lambda secret: (-len(secret), secret))
        self._patterns.clear()

    def __call__(self, text: str) -> str:
        """Give `text` with every secret in it replaced by `***`."""
        return _without_passwords(self._without_known(text))

    def _without_known(self, text: str) -> str:
        if not self._needles or not text:
            return text
        encoded = "%" in text
        if encoded not in self._patterns:
            kept = [name for name in self._names if name[0] == "/" or any(secret in name for secret in self._needles)]
            longer = [each for each in self._needles if any(name in each and name != each for name in kept)]
            spellings = [_any_spelling(secret, encoded=encoded) for secret in self._needles if secret not in longer]
            if kept:
                spellings.insert(0, f"(?P<name>{'|'.join(map(_name, kept))})")
            spellings = [*(_any_spelling(secret, encoded=encoded) for secret in longer), *spellings]
            self._patterns[encoded] = re.compile("|".join(spellings))
        return self._patterns[encoded].sub(_stars, text)


_OWN_NAMES: Final = ("postgresql", "PostgreSQL")  # a password of "postgres" is common
_LETTER_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", "\v": "v", "\a": "a"}
_LAST_OF_LATIN_1: Final = 0xFF
_LAST_OF_FIRST_PLANE: Final = 0xFFFF

# A password in a URL ends at the last @ before a / ? or #. Without such an @, what is no port is a password with one of
# these in it. Each match begins at a :// or password= of its own, and no part that could reach the next is unbounded.
_IN_URL: Final = re.compile(
    r"""(?P<user>://(?:[^\s/?\#'"`<>:]*)):(?P<password>[^\s/?\#'"`<>]+)@"""
    r"""|(?P<another>://[^\s/?\#'"`<>:[]*):(?!\d{1,5}(?:[/?\#,'"`<>\s]|$))(?:(?!://)[^\s@]){1,200}?@"""
)
_IN_CONNINFO: Final = re.compile(
    r"""(?P<key>password\s{0,9}=(?!=)\s{0,9})"""
    r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\\{1,8}(?P<quote>['"]).*?\\{1,8}(?P=quote)"""
    r"""|['"]?[^\s&'"]*[^\s&'",;)\]}])""",
    re.IGNORECASE | re.DOTALL,
)
_OF_AN_EXAMPLE: Final = "://user:password@"  # what a hint tells to write


def _without_passwords(text: str) -> str:
    """A text without what stands where a URL or a conninfo has its password. Linear in the text's length."""
    if "://" in text and "@" in text:
        text = _IN_URL.sub(_stars_in_url, text)
    return _IN_CONNINFO.sub(rf"\g<key>{STARS}", text) if "=" in text else text


def _stars_in_url(match: re.Match[str]) -> str:
    user = match["another"] if match["user"] is None else match["user"]
    return match[0] if match[0] == _OF_AN_EXAMPLE else f"{user}:{STARS}@"


def _stars(match: re.Match[str]) -> str:
    return match[0] if match.lastgroup == "name" else STARS


def _name(name: str) -> str:
    """Give a regular expression for a name, and for what lies in it if it is a folder."""
    if name[0] != "/":
        return re.escape(name)
    return rf"""(?<![\w/.:]){re.escape(name)}(?![\w.-])(?:/[^\s'"<>():/,;=&?@#|]{{1,255}}){{0,20}}"""


def _any_spelling(secret: str, *, encoded: bool) -> str:
    """Give a regular expression for `secret`, in any mixture of the ways to write its characters."""
    # By runs and with bounds: quantifiers side by side that could share the same characters would try every way to.
    runs = ((char, len(list(run))) for char, run in groupby(secret))
    spelled = "".join(_run(char, length, encoded=encoded) for char, length in runs)
    if len(secret) < _SHORT:
        return rf"(?<!\w)(?:{spelled})(?!\w)"
    return f"(?:{spelled})"


def _run(char: str, length: int, *, encoded: bool) -> str:
    """Give a regular expression for a character `length` times in any spelling."""
    if char.isascii() and char.isalnum():  # escaped by nobody, but a URL may percent-encode anything
        return f"(?:{char}|{_percent(char)}){{{length}}}" if encoded else char * length
    if char == "%":  # each is one sign, with what encoding it again has put behind it
        return rf"(?:\\{{0,8}}%(?:25){{0,4}}){{{length},{length * 2}}}"
    code = ord(char)
    ways = [rf"\\+u{_hex(f'{code:04x}')}" if code <= _LAST_OF_FIRST_PLANE else _surrogates(code)]
    ways += [rf"\\+U{_hex(f'{code:08x}')}", "".join(rf"\\+x{_hex(f'{byte:02x}')}" for byte in _bytes(char))]
    ways += [rf"\\+x{_hex(f'{code:02x}')}"] if code <= _LAST_OF_LATIN_1 else []
    ways += [rf"\\+{_LETTER_ESCAPES[char]}"] if char in _LETTER_ESCAPES else []
    ways += [r"\+"] if char == " " else []
    ways += [_percent(char)] if encoded else []
    if char == "\\":  # itself the sign that doubles
        return rf"(?:\\{{{length},{length * 8}}}|(?:\\|{'|'.join(ways)}){{{length}}})"
    doubled = length * 2 if char in "'\"" else length
    return rf"(?:{'|'.join(ways)}|\\{{0,8}}{re.escape(char)}){{{length},{doubled}}}"


def _bytes(char: str) -> bytes:
    return char.encode("utf-8", "surrogatepass")


def _percent(char: str) -> str:
    """Percent-encoded, once or more than once, or with the % doubled."""
    return "".join(f"%(?:%|25){{0,4}}{_hex(f'{byte:02x}')}" for byte in _bytes(char))


def _surrogates(code: int) -> str:
    """JSON writes a character beyond the first plane as two escapes."""
    high, low = divmod(code - 0x10000, 0x400)
    return rf"\\+u{_hex(f'{0xD800 + high:04x}')}\\+u{_hex(f'{0xDC00 + low:04x}')}"


def _hex(digits: str) -> str:
    """Give a regular expression for hexadecimal digits in either case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)
