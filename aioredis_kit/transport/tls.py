"""Make a TLS context, once per client, and again when its files have changed: it takes some 25 ms."""

from __future__ import annotations

import contextlib
import functools
import logging
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.transport.tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit.options import TLSOptions

logger = logging.getLogger(__name__)

_State: TypeAlias = "tuple[tuple[int, int, int] | None, ...]"


class TLSContext:
    """The TLS context of a client, made anew for the next handshake after one of its files has changed.

    So certificates can be renewed on disk while the client runs. As long as the new ones can't be used, because they
    are being written perhaps, those before are; that is logged once for each state of the files.

    Args:
        options: What it is made of. A ready ``SSLContext`` stays what it is.

    Attributes:
        options: What it is made of.
        context: The present context.

    Raises:
        ConfigurationError: A file can't be read, or a value is none that TLS knows.
    """

    def __init__(self, options: TLSOptions | ssl.SSLContext) -> None:
        self.options = options
        self._unusable: _State | None = None
        self._state = self._look()  # in this order: what changes while it is read is read again
        self.context = tls_context(options)

    async def current(self) -> ssl.SSLContext:
        """Return the context to use for a handshake that begins now.

        Cancellation:
            Safe.
        """
        if isinstance(self.options, ssl.SSLContext):
            return self.context
        state = self._look()
        if state != self._state:
            try:
                self.context = await in_thread(functools.partial(tls_context, self.options))
                self._state = state
            except ConfigurationError as error:
                if state != self._unusable:
                    self._unusable = state
                    logger.warning("the TLS files have changed; those before go on being used: %s", error)
        return self.context

    async def without_name(self) -> ssl.SSLContext | None:
        """Return a context that checks all but the name in the server's certificate, to look at that.

        It has no certificate of the client's: who the client is, is not for a server by another name.

        Returns:
            ``None`` where the context was given: it can't be copied.

        Cancellation:
            Safe.
        """
        if isinstance(self.options, ssl.SSLContext):
            return None
        options = replace(self.options, check_hostname=False, certificate_file=None, key_file=None)
        with contextlib.suppress(ConfigurationError):  # its files may be gone meanwhile
            return await in_thread(functools.partial(tls_context, options))
        return None

    def _look(self) -> _State:
        """Return what can be seen of the files without reading them."""
        options = self.options
        if isinstance(options, ssl.SSLContext):
            return ()
        return tuple(map(_seen, (options.ca_file, options.ca_path, options.certificate_file, options.key_file)))


def _seen(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


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
