"""The TLS context for `sslmode=require` and above (PostgreSQL manual, "SSL Support" of libpq).

asyncpg takes its certificates from the process's environment and the home folder, or from a DSN; here they come from
one parse, and `sslrootcert=system` has libpq's meaning. For `allow` and `prefer` asyncpg makes its own, since it falls
back.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from headstart.errors import ConfigurationError


def context(params: Mapping[str, str]) -> ssl.SSLContext:
    """Make the context that these parameters ask for.

    Args:
        params: libpq's parameters with every path resolved.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = params["sslmode"] == "verify-full"
    made.verify_mode = (
        ssl.CERT_REQUIRED if "sslrootcert" in params else ssl.CERT_NONE
    )  # `require` without a CA: libpq's rule
    made.minimum_version = _version(params.get("ssl_min_protocol_version", "TLSv1.2"))
    if "ssl_max_protocol_version" in params:
        made.maximum_version = _version(params["ssl_max_protocol_version"])
    if ssl.HAS_ALPN:
        made.set_alpn_protocols(["postgresql"])  # servers from 17 on ask for it when TLS is direct
    reading = "sslrootcert"
    try:
        if params.get("sslrootcert") == "system":
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        elif "sslrootcert" in params:
            made.load_verify_locations(cafile=params["sslrootcert"])
        reading = "sslcrl"
        if "sslcrl" in params or "sslcrldir" in params:
            made.load_verify_locations(cafile=params.get("sslcrl"), capath=params.get("sslcrldir"))
            made.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        reading = "sslcert"
        if "sslcert" in params and params.get("sslcertmode") != "disable":
            # With a password, though an empty one: OpenSSL would ask for it on the terminal.
            made.load_cert_chain(params["sslcert"], params.get("sslkey"), password="")
    except (OSError, ValueError) as error:
        paths = ", ".join(params[key] for key in (reading, "sslkey")[: 1 + (reading == "sslcert")] if key in params)
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        problem = f"{reading}: {paths} cannot be used ({why}): it has to be a PEM file of the right kind"
        raise ConfigurationError(problem) from error
    return made


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
