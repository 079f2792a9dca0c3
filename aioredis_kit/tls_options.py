"""``TLSOptions``: how connections are encrypted, and who is trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import (
    CERTIFICATES,
    FLAG,
    HOST,
    PATH,
    SECRET,
    TEXT,
    TLS_VERSION,
    Kind,
    optional,
    read_fields,
    reads,
)

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS", "TLSOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """How connections are encrypted, and who is trusted.

    Attributes:
        ca_file: File with the trusted certificates, in PEM; without any ``ca_*`` the system's are trusted.
        ca_path: Folder with trusted certificates, as OpenSSL wants it.
        ca_data: Trusted certificates: PEM as text or DER as bytes.
        certificate_file: File with the client's own certificate, in PEM.
        key_file: File with its key, unless that is in ``certificate_file``.
        key_password: Password of the key.
        server_hostname: The name that the server's certificate must bear; ``None`` is the host.
        minimum_version: ``"TLSv1.2"`` or ``"TLSv1.3"``, also as ``ssl.TLSVersion``.
        ciphers: Ciphers for TLS 1.2, as OpenSSL names them.
        verify: Whether the server's certificate is checked. ``False`` implies that its name isn't either.
        check_hostname: Whether the name in the certificate is checked.

    Raises:
        ConfigurationError: A value is of another type or out of range.
    """

    ca_file: str | None = field(default=None, metadata=reads(optional(PATH)))
    ca_path: str | None = field(default=None, metadata=reads(optional(PATH)))
    ca_data: str | bytes | None = field(default=None, metadata=reads(optional(CERTIFICATES)))
    certificate_file: str | None = field(default=None, metadata=reads(optional(PATH)))
    key_file: str | None = field(default=None, metadata=reads(optional(PATH)))
    key_password: str | None = field(default=None, repr=False, metadata=reads(optional(SECRET)))
    server_hostname: str | None = field(default=None, metadata=reads(optional(HOST)))
    minimum_version: str | ssl.TLSVersion = field(default="TLSv1.2", metadata=reads(TLS_VERSION))
    ciphers: str | None = field(default=None, metadata=reads(optional(TEXT)))
    verify: bool = field(default=True, metadata=reads(FLAG))
    check_hostname: bool = field(default=True, metadata=reads(FLAG))

    def __post_init__(self) -> None:
        read_fields(self, "TLSOptions.")
        if self.key_file is not None and self.certificate_file is None:
            raise ConfigurationError("TLSOptions.key_file is of no use alone: give certificate_file (ssl_certfile) too")


def _read_tls(given: object) -> object:
    if given is None or isinstance(given, bool):
        return bool(given)
    # What asyncio needs of an SSLContext; ssl itself is not for this floor to load.
    if not isinstance(given, TLSOptions) and not callable(getattr(given, "wrap_bio", None)):
        raise TypeError
    return given


TLS: Final = Kind("True, False, TLSOptions or an ssl.SSLContext", _read_tls, FLAG.parse, spelled=FLAG.spelled)
