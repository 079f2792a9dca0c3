"""A provider of numbered tokens, on virtual time, and which of them a scripted peer has seen."""

from __future__ import annotations

from aioredis_kit import Credentials, TokenCredentials
from tests.support.virtual_time import EPOCH

LIFE = 240.0
RENEWAL = 180.0
"""When a token that lives so long is renewed, without jitter."""


class Source:
    """A provider of numbered tokens.

    Attributes:
        asked_at: When it was asked.
        answers: What it does the next times, instead of returning the next token: raises, or returns that.
    """

    def __init__(self, clock, life=LIFE):
        self.asked_at = []
        self.answers = []
        self.holds = None
        self._clock = clock
        self._life = life

    async def get_credentials(self):
        self.asked_at.append(round(self._clock(), 3))
        if self.holds is not None:
            await self.holds.wait()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self.token(len(self.asked_at))

    def token(self, number):
        return Credentials("app", f"token-{number}", expires_at=EPOCH + self._clock() + self._life)

    @property
    def provider(self):
        """With a schedule that has no jitter."""
        return TokenCredentials(self, jitter=0)


def authentications(peer):
    """On which connection which token was used, handshakes included, in order."""
    found = []
    for each in peer.commands:
        words = [word.decode() for word in each.words]
        if "AUTH" in words and words[-1].startswith("token-"):
            found.append((each.connection.number, words[-1]))
    return found
