"""Make a TLS context, once per client: it takes some 25 ms."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.options import TLSOptions


def tls_context(options: TLSOptions | ssl.SSLContext) -> ssl.SSLContext:
    """Return a context for client connections.

    Raises:
        ConfigurationError: A file can't be read, or a value is none that TLS knows.
    """
    if isinstance(options, ssl.SSLContext):
        return options
    with _naming(ca_file=options.ca_file, ca_path=options.ca_path, ca_data=options.ca_data and ""):
        context = ssl.create_default_context(cafile=options.ca_file, capath=options.ca_path, cadata=options.ca_data)
    with _naming(minimum_version=options.minimum_version):
        context.minimum_version = _version(options.minimum_version)
    context.check_hostname = options.verify and options.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if options.verify else ssl.CERT_NONE
    if options.ciphers is not None:
        with _naming(ciphers=options.ciphers):
            context.set_ciphers(options.ciphers)
    if options.certificate_file is not None:
        with _naming(certificate_file=options.certificate_file, key_file=options.key_file):
            # An empty password is refused where one is needed; without any OpenSSL would ask on the terminal.
            context.load_cert_chain(options.certificate_file, options.key_file, options.key_password or "")
    return context


@contextlib.contextmanager
def _naming(**options: object) -> Iterator[None]:
    """Name the options in the error, where what they say can't be used."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:  # ssl.SSLError is an OSError
        named = " and ".join(f"{name} {value}".strip() for name, value in options.items() if value is not None)
        reason = str(getattr(error, "strerror", None) or (error.args[0] if error.args else error))
        raise ConfigurationError(f"tls: {named} can't be used: {reason.partition(' (_ssl')[0]}") from error


def _version(version: ssl.TLSVersion | str) -> ssl.TLSVersion:
    if isinstance(version, ssl.TLSVersion):
        return version
    return ssl.TLSVersion[version.replace(".", "_")]
