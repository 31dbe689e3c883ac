"""Any user may run the image, and none of them is root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engine import Engine, Server


@pytest.mark.parametrize("user", ["", "12345:0", "1000700000:0", "0:0"], ids=["its-own", "12345", "openshift", "root"])
def test_user(engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], user: str) -> None:
    """It migrates and backs up into a fresh named volume, whatever its uid."""
    held = database(f"user {user}")
    with engine.volume() as volume:
        options = ["--network", network, "--volume", f"{volume}:/backups", *(["--user", user] if user else [])]
        env = {"DATABASE_URL": held.url()}
        assert engine.run(stock_image, "upgrade", "+2", options=options, env=env).code == 0
        done = engine.run(stock_image, options=options, env=env)
        assert done.code == 0, done
        assert done.last["backup"]
        verified = engine.run(stock_image, "backups", "verify", options=options, env=env)
        assert verified.code == 0, verified


def test_its_own_user_is_not_root(engine: Engine, runner_image: str) -> None:
    """The image names a numeric user, which Kubernetes' runAsNonRoot needs to see."""
    assert engine.inspect(runner_image)["Config"]["User"] == "65532:65532"
    assert engine.run(runner_image, "id", "-u").stdout == "65532\n"
