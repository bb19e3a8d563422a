"""Ids must be the same in every process and on every version: state and consumers hold them."""

from __future__ import annotations

import hashlib

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import KEY_BYTES, example_id, user_key


def test_ids_follow_the_published_rule() -> None:
    key = hashlib.blake2b(b"u-1", digest_size=10).digest()
    assert user_key("u-1") == key
    exposure = xxhash.xxh3_64_intdigest(b"r-1\0i-1")
    assert example_id(key, "r-1", "i-1", "e-1") == key.hex() + format(exposure, "016x")
    alone = xxhash.xxh3_64_intdigest(b"e-1")
    assert example_id(key, None, "i-1", "e-1") == key.hex() + format(alone, "016x")


def test_ids_do_not_change_between_releases() -> None:
    assert user_key("user-42").hex() == "5a259fa86d45476a4160"
    assert user_key("user-42", b"secret").hex() == "c70262d1f4d4ff61cf24"
    assert example_id(user_key("user-42"), "r", "i", "e") == "5a259fa86d45476a4160f9ee2b67c2d11f9a"
    assert example_id(user_key("user-42"), None, "i", "e") == "5a259fa86d45476a4160e5e72e5e3bec4a78"


@given(user=st.text(), request=st.text(), item=st.text(), event=st.text())
def test_an_id_always_leads_to_its_user(user: str, request: str, item: str, event: str) -> None:
    key = user_key(user)
    assert len(key) == KEY_BYTES
    identifier = example_id(key, request, item, event)
    assert len(identifier) == 2 * KEY_BYTES + 16
    assert bytes.fromhex(identifier[: 2 * KEY_BYTES]) == key


def test_an_empty_request_is_no_request() -> None:
    key = user_key("u")
    assert example_id(key, "", "i", "e") == example_id(key, None, "i", "e")


def test_request_and_item_do_not_run_into_each_other() -> None:
    key = user_key("u")
    assert example_id(key, "r1", "2i", "e") != example_id(key, "r12", "i", "e")


def test_half_a_surrogate_pair_has_an_id() -> None:
    assert len(user_key("\ud800")) == KEY_BYTES
    assert example_id(user_key("u"), "\ud800", "i", "e") != example_id(
        user_key("u"), "\ud801", "i", "e"
    )


def test_a_secret_that_the_hash_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        user_key("u", b"x" * 65)
