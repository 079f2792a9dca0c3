"""What connections are to be: each change makes another version, which shows in how they are introduced."""

import dataclasses

import pytest

from aioredis_kit.credentials import Credentials
from aioredis_kit.lanes.desired import Desired

FIRST = Desired(credentials=Credentials("ada", "s3cret"), db=2, client_name="me", client_info=(("LIB-NAME", "kit"),))


def test_a_change_is_the_next_version_and_keeps_the_rest():
    second = FIRST.changed(db=3)
    third = second.changed(client_name=None)
    assert (FIRST.version, second.version, third.version) == (0, 1, 2)
    assert (FIRST.db, second.db, third.db) == (2, 3, 3)
    assert (third.credentials, third.client_name, third.client_info) == (FIRST.credentials, None, FIRST.client_info)


def test_a_change_to_the_same_is_a_version_too():
    """Connections that did not take it are not what they should be."""
    assert FIRST.changed(db=2).version == 1


def test_it_can_not_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIRST.db = 3


@pytest.mark.parametrize("protocol", [None, 2, 3])
@pytest.mark.parametrize("wants_id", [False, True])
def test_the_introduction_has_all_of_it(protocol, wants_id):
    given = Credentials("bob", "t0ken-of-bob")
    introduction = FIRST.changed(db=4).introduction(protocol=protocol, credentials=given, wants_id=wants_id)
    assert introduction.credentials is given  # what a provider gave goes before
    assert (introduction.db, introduction.client_name, introduction.client_info) == (4, "me", FIRST.client_info)
    assert (introduction.protocol, introduction.wants_id, introduction.version) == (protocol, wants_id, 1)


@pytest.mark.pins("P7")
def test_it_shows_no_secret():
    assert "s3cret" not in repr(FIRST)
