"""What must not be shown is not shown, in whatever spelling it stands."""

from __future__ import annotations

import configparser
import json
import pickle
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import hypothesis
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.log.logger import clean
from headstart.log.secret import Redactor, Secret
from headstart.settings.conninfo import EXAMPLE

relaxed = hypothesis.settings(deadline=None)  # a busy machine is not slow code
AWKWARD = "@:/?#%&=+,;'\"\\[]{}()<>|*~!$^` \t\nä€🐘aZ09.-_"

secrets = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8", exclude_characters="\0"), min_size=3)

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quote": quote,
    "quote everything": lambda text: quote(text, safe=""),
    "quote_plus": quote_plus,
    "quote in lower case": lambda text: quote(text, safe="").lower() if text.islower() else quote(text, safe=""),
    "every byte encoded": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "doubled for configparser": lambda text: quote(text, safe="").replace("%", "%%"),
    "raw for configparser": lambda text: text.replace("%", "%%"),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with Unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON by msgspec": lambda text: msgspec.json.encode(text).decode()[1:-1],
    "JSON of JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "repr in JSON": lambda text: json.dumps(repr(text)[1:-1])[1:-1],
    "SQL": lambda text: text.replace("'", "''"),
    "SQL with backslashes": lambda text: text.replace("\\", "\\\\").replace("'", "''"),
    "SQL identifier": lambda text: text.replace('"', '""'),
    "passfile": lambda text: text.replace("\\", "\\\\").replace(":", "\\:"),
    "conninfo": lambda text: text.replace("\\", "\\\\").replace("'", "\\'"),
}


class TestNames:
    """What is a name of ours stays, though a password be the same word."""

    @pytest.mark.parametrize(
        "text",
        [
            "others are connected to the database shop",
            'alter database "shop_before_restore_20260131" rename to shop',
            "syntax error (/srv/shop2/migrations/versions/a4_shop.py:3)",
            "PostgreSQL 18 answers: postgresql://shop@db/shop",
            "the folder /backups/shop/20260131-a1 is there",
        ],
    )
    def test_names_stay(self, text: str) -> None:
        """Of the database, the role, folders and what lies in them."""
        assert Redactor(["shop"], ["shop", "/srv/shop2", "/backups"])(text) == text

    def test_the_password_goes_where_it_is_one(self) -> None:
        """In a URL, and after `password=`."""
        redact = Redactor(["shop"], ["shop"])
        assert redact("postgresql://shop:shop@db/shop") == "postgresql://shop:***@db/shop"
        assert redact("user=shop password=shop") == "user=shop password=***"

    def test_a_word_that_is_no_name_goes(self) -> None:
        """A part of a folder's name is no name by itself."""
        assert Redactor(["shop2"], ["/srv/shop2"])("/srv/shop2/x.py says shop2") == "/srv/shop2/x.py says ***"

    @pytest.mark.parametrize(
        "text",
        [
            "https://api.example/hook?token={}",
            "redis://{}@cache",
            "see /app/alembic.ini;pw={}",
            "/app/login,{}",
            "//{}",
        ],
    )
    @pytest.mark.parametrize("folder", ["/", "/app"])
    def test_what_only_follows_a_folder_goes(self, folder: str, text: str) -> None:
        """A folder is kept with the names in it, and with nothing else; the root is no folder of ours."""
        assert "S3cr3t" not in Redactor(["S3cr3t"], [folder])(text.format("S3cr3t"))

    def test_a_password_that_holds_a_name_goes(self) -> None:
        """It is longer than the name in it."""
        redact = Redactor(["shop-7c4!", "/srv/app#1"], ["shop", "/srv/app"])
        assert redact("shop: shop-7c4! and /srv/app#1 in /srv/app/x") == "shop: *** and *** in /srv/app/x"


class TestRedactor:
    """Which spellings of a secret are found."""

    @relaxed
    @given(secret=secrets.map(lambda secret: f"Z{secret}q"))
    @example(secret="p@ss:/w%q")
    @example(secret="Z'''\\\\\"\"%%25q")
    @example(secret="Z\\x'\\'\\n\nq")
    def test_every_spelling_is_hidden(self, secret: str) -> None:
        """A secret is replaced as a whole in every spelling, and what stands around it stays."""
        redact = Redactor([secret])
        assert {
            name: redact(f"<{revision_field(secret)}>") for name, revision_field in SPELLINGS.items()
        } == dict.fromkeys(SPELLINGS, "<***>")

    @pytest.mark.parametrize("secret", ["'a'", "\\a\\", "%a%", '"""', "\n\n\n", "   ", "éàü", "🐘🐘🐘", ":/:", "%41"])
    def test_every_edge_is_hidden(self, secret: str) -> None:
        """A secret that begins and ends with what is escaped is replaced with its escapes."""
        redact = Redactor([secret])
        assert {
            name: redact(f"<{revision_field(secret)}>") for name, revision_field in SPELLINGS.items()
        } == dict.fromkeys(SPELLINGS, "<***>")

    @relaxed
    @given(st.lists(secrets, min_size=1, max_size=4), st.text("<>", min_size=1))
    def test_several_among_other_text(self, several: list[str], between: str) -> None:
        """Of several secrets in one text, each is replaced."""
        several = [f"Z{secret}q" for secret in several]
        assert Redactor(several)(between.join(several)) == between.join(["***"] * len(several))

    def test_the_longest_goes_first(self) -> None:
        """A secret that begins like another one is hidden whole."""
        assert Redactor(["abc", "abcdef"])("abcdef abc") == "*** ***"

    def test_short_ones_only_alone(self) -> None:
        """A secret of one or two characters is hidden where it stands alone, not within every word."""
        assert Redactor(["a", ""])("a cat; password=a; p:a@h") == "*** cat; password=***; p:***@h"

    def test_a_scheme_stays_readable(self) -> None:
        """A password of "postgres" does not make the scheme of every URL unreadable."""
        assert Redactor(["postgres"])("postgresql://postgres@h postgresql+asyncpg://") == (
            "postgresql://***@h postgresql+asyncpg://"
        )

    @relaxed
    @given(st.text())
    def test_nothing_to_hide(self, text: str) -> None:
        """Without secrets a text stays as it is."""
        assert Redactor([])(text) == Redactor([""])(text) == text

    @pytest.mark.parametrize("password", ["word", "p%40ss", "p/w", "p?w#", 'it"s', "a=:;b"])
    @pytest.mark.parametrize(
        "text",
        [
            "postgresql://app:{}@db:5432/app?sslmode=require",
            "redis://:{}@h/0",
            "amqp://u:{}@a,amqp://u@dom:{}@b/%2f?mail=a@b",
            "mongodb://u:{}@a:1,b:2/x",
            "{{'url': 'amqp://u:{}@h', 'mail': 'a@b'}}",
        ],
    )
    def test_passwords_in_urls(self, text: str, password: str) -> None:
        """A password that nobody knows is hidden where a URL has one, and nothing else is."""
        assert Redactor(["another"])(text.format(password, password)) == text.format("***", "***")

    @pytest.mark.parametrize("password", ["word", "p%40ss", "p/w", "p@w", "a=:;b"])
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("host=h password={} user=u", "host=h password=*** user=u"),
            ("host=h password = '{} it\\'s' user=u", "host=h password = *** user=u"),
            ("PGPASSWORD={}; echo", "PGPASSWORD=***; echo"),
            ("postgresql://h/d?password={}&sslpassword={}", "postgresql://h/d?password=***&sslpassword=***"),
            ('connect(password="{}", user="u")', 'connect(password=***, user="u")'),
            ('"connect(password=\\"{} x\\", user=u)"', '"connect(password=***, user=u)"'),
        ],
    )
    def test_passwords_in_conninfos(self, text: str, shown: str, password: str) -> None:
        """The same where a conninfo has one, a variable of libpq's, or an argument."""
        assert Redactor(["another"])(text.format(password, password)) == shown

    @pytest.mark.parametrize(
        "text",
        [
            "http://host:8080/a@b",
            "http://host:8080?mail=a@b",
            "http://[::1]:80/a@b",
            "postgresql://u@[::1]:5432,h:2/d@x",
            "git+ssh://git@host:22/x@v1",
            "/backups/a:b@c",
            "file:///a:b/c@d",
            "password == x",
            "alter role x password '...'",
            f"write {EXAMPLE}",
        ],
    )
    def test_no_password(self, text: str) -> None:
        """What only looks like one stays: ports, paths, and what a hint tells to write."""
        assert Redactor([])(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            *("\\" * 100_000, ":" * 100_000, "://" * 40_000, "://a:" * 30_000, "://a:b/" * 20_000, "://a:b@" * 20_000),
            *("password=" * 12_000, "password='" * 12_000, "password='\\" * 10_000, "password=\\'" * 11_000),
            *("password=" + "\\" * 100_000, "password" + " " * 100_000, "password=;" * 12_000, "://a:" + "@" * 100_000),
        ],
        ids=lambda text: text[:12],
    )
    def test_no_text_of_places_takes_for_ever(self, text: str) -> None:
        """Each is searched in a time that grows with its length: a thousandth of a second for a thousand characters."""
        began = time.process_time()
        Redactor(["p\\:x"])(text)
        assert time.process_time() - began < len(text) / 100_000

    @pytest.mark.parametrize(
        ("secret", "text"),
        [
            ("%" * 12 + "x", "%" * 4000 + "%25" * 4000),
            ("'\"" * 6 + "x", "'\"" * 4000),
            (" \n" * 6 + "x", "+\\n" * 4000),
            ("\\:" * 6 + "x", "\\" * 2000 + "\\:" * 2000),
        ],
    )
    def test_no_text_takes_for_ever(self, secret: str, text: str) -> None:
        """A text that nearly matches over and over is searched to its end, or the suite times out."""
        assert "x" not in Redactor([secret])(text)

    def test_what_alembic_configuration_holds(self) -> None:
        """A URL in a configparser error is hidden, its percent signs doubled or not."""
        parser = configparser.ConfigParser()
        parser.add_section("alembic")
        with pytest.raises(ValueError, match="invalid interpolation") as caught:
            parser.set("alembic", "sqlalchemy.url", f"postgresql://u:{quote('p@ss:/w%', safe='')}@h/d")
        assert "w%" not in Redactor(["p@ss:/w%"])(str(caught.value))
        assert "***" in Redactor(["p@ss:/w%"])(str(caught.value))


@pytest.mark.parametrize("password", ["app", "done", "info", "event", "path"])
def test_names_of_ours_stay(password: str) -> None:
    """A password that is a word of a line's own does not alter the line; what others wrote, it is taken out of."""
    ours = {
        "event": "revision_applied",
        "level": "info",
        "outcome": "done",
        "path": "/backups/app/x",
        "applied": ["app"],
    }
    line = {**ours, "error": f"with {password}", "context": {"event": "done", "text": password}}
    assert clean(line, Redactor([password])) == {
        **ours,
        "error": "with ***",
        "context": {"event": "done", "text": "***"},
    }


class TestSecret:
    """What a Secret shows of itself."""

    @relaxed
    @given(secrets.map(lambda secret: f"ZqX{secret}"))
    def test_it_shows_stars(self, value: str) -> None:
        """No ordinary way to write a Secret, alone or inside something, writes its value."""
        secret = Secret(value)
        shown = (repr(secret), str(secret), f"{secret}", f"{secret!r:>9}", "%s" % secret, repr([secret]))  # noqa: UP031
        assert all("ZqX" not in text and "***" in text for text in shown)
        assert secret.reveal() == value

    def test_it_compares_by_value(self) -> None:
        """Two Secrets of one value are equal and have one hash; a Secret is not equal to its text."""
        assert Secret("a") == Secret("a") != Secret("b")
        assert len({Secret("a"), Secret("a")}) == 1
        assert Secret("a") != "a"

    def test_it_is_not_written_out(self) -> None:
        """Neither pickle nor JSON take a Secret."""
        secret = Secret("a")
        with pytest.raises(TypeError):
            pickle.dumps(secret)
        with pytest.raises(TypeError):
            json.dumps(secret)
        with pytest.raises(TypeError):
            msgspec.json.encode(secret)
