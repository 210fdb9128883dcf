"""Who gets in: the token, the Host header, other pages, and what a browser is allowed to run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from episodes.errors import ConfigError
from reward.review.gate import Names
from reward.review.page import names_of
from tests.reward.review.serving import TOKEN
from tests.reward.review.test_api import ANNA

Client = Callable[..., TestClient]


def test_only_the_right_token_gets_in_and_every_answer_carries_the_policy(client: Client) -> None:
    page = client()
    wrong = ["", "review.js", "api/state", f"{TOKEN[:-1]}/", f"{TOKEN}x/api/state", "x" * 32 + "/", "%C3%BC/"]
    for path in wrong:
        answered = page.get(f"http://127.0.0.1:8471/{path}")
        assert answered.status_code == 403, path
        assert "token" in answered.json()["detail"]
    for path in ("", "review.js", "review.css", "icon.svg", "api/state"):
        answered = page.get(path)
        assert answered.status_code == 200, path
        policy = answered.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answered.headers
        assert "set-cookie" not in answered.headers
    assert TOKEN not in page.get("").text, "what is saved or shared of the page lets nobody in"
    for path in ("docs", "openapi.json", "redoc", "static/review.js", "../../page.py", "..%2fpage.py"):
        assert page.get(path).status_code in (403, 404, 422), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8471", "127.0.0.1:1", "127.0.0.1", "", "a@localhost:8471"]
)
def test_a_name_that_is_not_ours_is_refused_whatever_it_points_to(client: Client, host: str) -> None:
    answered = client().get("", headers={"host": host})
    assert answered.status_code == 403
    assert "not called by that name" in answered.json()["detail"]


def test_other_pages_can_neither_write_nor_send_long_things(client: Client) -> None:
    page = client()
    foreign = page.post("api/next", json=ANNA, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert page.post("api/next", json=ANNA, headers={"origin": "null"}).status_code == 403
    own = {"origin": "http://127.0.0.1:8471"}
    assert page.post("api/next", json=ANNA, headers=own).status_code == 200
    assert page.post("api/next", json={**ANNA, "x": "y" * (1 << 17)}).status_code == 413
    assert page.post("api/next", content=iter([b"{}"])).status_code == 413
    assert page.options("api/next", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"person": "<b>x</b>", "tab": "tab-anna-1"},
        {"person": "anna", "tab": "x"},
        {"person": "anna", "tab": "tab-anna-1", "more": 1},
        {"person": ["anna"], "tab": "tab-anna-1"},
        [],
    ],
)
def test_a_request_that_is_not_as_expected_is_refused_in_one_sentence(client: Client, body: object) -> None:
    answered = client().post("api/next", json=body)
    assert answered.status_code == 422
    assert isinstance(answered.json()["detail"], str)


@given(st.text(max_size=40))
def test_no_text_is_taken_for_this_machine_but_its_names(text: str) -> None:
    names = Names(8471)
    known = {f"{name}:8471" for name in ("localhost", "127.0.0.1", "[::1]")}
    assert not names.allow(text) or text.lower() in known
    assert all(names.allow(name) for name in known)


def test_on_the_network_any_address_will_do_but_no_foreign_name() -> None:
    names = names_of("0.0.0.0", 80)
    assert names.addresses
    assert names.allow("192.168.3.4")
    assert names.allow("[fe80::1]:80")
    assert not names.allow("rebound.example")
    assert not names_of("127.0.0.1", 80).addresses
    assert not names_of("::1", 80).addresses
    with pytest.raises(ConfigError, match="no address"):
        names_of("somewhere", 80)
