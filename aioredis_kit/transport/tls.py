"""Make a TLS context, once per client: it takes some 25 ms."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from aioredis_kit.options import TLSOptions


def tls_context(options: TLSOptions | ssl.SSLContext) -> ssl.SSLContext:
    """Return a context for client connections.

    Raises:
        ConfigurationError: A file can't be read, or a value is none that TLS knows.
    """
    if isinstance(options, ssl.SSLContext):
        return options
    try:
        return _build(options)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(f"tls: the TLS context can't be made: {error}") from error


def _build(options: TLSOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ca_file, capath=options.ca_path, cadata=options.ca_data)
    context.minimum_version = _version(options.minimum_version)
    context.check_hostname = options.verify and options.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if options.verify else ssl.CERT_NONE
    if options.ciphers is not None:
        context.set_ciphers(options.ciphers)
    if options.certificate_file is not None:
        context.load_cert_chain(options.certificate_file, options.key_file, options.key_password)
    return context


def _version(version: ssl.TLSVersion | str) -> ssl.TLSVersion:
    if isinstance(version, ssl.TLSVersion):
        return version
    return ssl.TLSVersion[version.replace(".", "_")]
