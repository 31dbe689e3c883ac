"""A type for what must not be shown, and the filter for text that may hold it all the same.

`Secret` keeps a value out of `repr`, `str`, f-strings, pickles and JSON. `Redactor` is for text that somebody else wrote:
a server's message, a child's stderr, an exception of env.py. It does not guess what a password looks like: it knows the
values, and knows every way in which a character of them can be spelled on its way into such a text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

STARS: Final = "***"
_SHORT: Final = 3  # a secret shorter than this is hidden only where it stands alone: "a" is in every word


class Secret:
    """A string that shows itself only when asked to by name.

    Args:
        value: what is to be kept; `reveal()` gives it back.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return STARS

    def __str__(self) -> str:
        return STARS

    def __format__(self, spec: str) -> str:
        return format(STARS, spec)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        message = "a Secret is not pickled: it would be written out in the clear"
        raise TypeError(message)


class Redactor:
    """Replaces known secrets by stars, in whatever spelling they stand in a text.

    Each character may stand as itself, percent-encoded (`%40`, `%c3%a9`, a `+` for a blank, its `%` doubled for
    configparser or encoded again), escaped for JSON or by `repr` (`\\n`, `\\u00e9`, `\\xe9`), with backslashes before it
    (passfile, conninfo, shell) or doubled (SQL's quotes): so any mixture of these is found, without a list of mixtures.

    Args:
        secrets: the values; empty ones are ignored, those below three characters are hidden only as whole words.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted({secret for secret in secrets if secret}, key=lambda secret: (-len(secret), secret))
        self._needles = tuple(longest_first)
        self._pattern: re.Pattern[str] | None = None  # compiled at first use: a run of few words may never need it

    def __call__(self, text: str) -> str:
        """Give `text` with every secret in it replaced by `***`."""
        if not self._needles or not text:
            return text
        if self._pattern is None:
            self._pattern = re.compile("|".join(map(_any_spelling, self._needles)))
        return self._pattern.sub(STARS, text)


def _any_spelling(secret: str) -> str:
    """Give a regular expression for `secret`, in any mixture of the ways to write its characters."""
    spelled = "".join(map(_any_spelling_of_character, secret))
    if len(secret) < _SHORT:
        return rf"(?<!\w)(?:{spelled})(?!\w)"
    return f"(?:{spelled})"


_LETTER_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", "\v": "v", "\a": "a"}


def _any_spelling_of_character(char: str) -> str:
    percent = "".join(f"%(?:%|25)*{_hex(f'{byte:02x}')}" for byte in char.encode("utf-8", "surrogatepass"))
    if char.isascii() and char.isalnum():
        # Nobody escapes these, but a URL may percent-encode anything.
        return f"(?:{char}|{percent})"
    code = ord(char)
    ways = [percent]
    if char == "\\":
        ways.insert(0, r"\\+")
    elif char in "'\"":
        ways.insert(0, rf"\\*{char}(?:\\*{char})?")
    elif char == "%":
        ways.insert(0, r"\\*%%?")
    else:
        ways.insert(0, rf"\\*{re.escape(char)}")
    if char == " ":
        ways.append(r"\+")
    if char in _LETTER_ESCAPES:
        ways.append(rf"\\+{_LETTER_ESCAPES[char]}")
    ways.append(rf"\\+u{_hex(f'{code:04x}')}" if code <= 0xFFFF else _surrogates(code))  # noqa: PLR2004  (the first plane)
    ways.append(rf"\\+x{_hex(f'{code:02x}')}" if code <= 0xFF else rf"\\+U{_hex(f'{code:08x}')}")  # noqa: PLR2004
    return f"(?:{'|'.join(ways)})"


def _surrogates(code: int) -> str:
    """JSON writes a character beyond the first plane as two escapes."""
    high, low = divmod(code - 0x10000, 0x400)
    return rf"\\+u{_hex(f'{0xD800 + high:04x}')}\\+u{_hex(f'{0xDC00 + low:04x}')}"


def _hex(digits: str) -> str:
    """Give a regular expression for hexadecimal digits in either case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)
