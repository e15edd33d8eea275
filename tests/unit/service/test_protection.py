"""Who gets past the checks before an application, and what every answer tells a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fewlabel.service.protection import protected
from fewlabel.service.token_check import cookie_name, new_token

TOKEN = "right-token"
HOME = "http://127.0.0.1:8600"


async def count(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


def client(**more: object) -> TestClient:
    app = Starlette(routes=[Route("/", count, methods=["GET", "POST"])])
    return TestClient(protected(app, TOKEN, largest_body=10, **more), base_url=HOME)  # type: ignore[arg-type]


def opened() -> TestClient:
    """A browser that has opened the link."""
    browser = client()
    assert browser.get(f"/?token={TOKEN}").status_code == 200
    return browser


@pytest.mark.parametrize(
    "query", ["", "?token=", "?token=right-toke", "?token=right-tokenx", "?token=%ff%c3", "?Token=right-token"]
)
def test_without_the_right_token_nothing_is_said(query: str) -> None:
    answer = client().get(f"/{query}")
    assert answer.status_code == 401
    assert "Open the link that the terminal shows" in answer.json()["detail"]
    assert "set-cookie" not in answer.headers


def test_a_link_opens_the_page_and_its_cookie_goes_on() -> None:
    browser = client()
    answer = browser.get(f"/?token={TOKEN}")
    assert answer.text == "0 bytes"
    assert answer.headers["set-cookie"] == f"{cookie_name(TOKEN)}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert browser.get("/").status_code == 200
    assert "set-cookie" not in browser.get("/").headers


def test_each_server_has_a_cookie_of_its_own_and_foreign_ones_open_nothing() -> None:
    other = new_token()
    assert cookie_name(other) != cookie_name(TOKEN)
    assert len(other) >= 43
    for cookie in (f"{cookie_name(TOKEN)}=wrong", f"{cookie_name(other)}={TOKEN}", "fewlabel=;;=;", "\x00"):
        assert client().get("/", headers={"cookie": cookie}).status_code == 401


@pytest.mark.parametrize("other", ['state={"open": 1}', "a/b=c", "theme@lab=dark", "x=1 2", "expires=3", "alone"])
def test_cookies_of_other_programs_on_this_machine_are_in_nobodys_way(other: str) -> None:
    # Browsers send the cookies of all ports, whatever they hold.
    own = f"{cookie_name(TOKEN)}={TOKEN}"
    for cookie in (f"{other}; {own}", f"{own}; {other}"):
        assert client().get("/", headers={"cookie": cookie}).status_code == 200
    assert client().get("/", headers={"cookie": other}).status_code == 401


def test_programs_send_the_token_in_a_header() -> None:
    assert client().get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer"):
        assert client().get("/", headers={"authorization": wrong}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "localhost.evil", "", "10.0.0.1"]
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(host: str) -> None:
    assert client().get(f"/?token={TOKEN}", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8600", "LOCALHOST"])
def test_this_machine_by_any_name_and_port_is_served(host: str) -> None:
    assert client().get(f"/?token={TOKEN}", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8600"},
        {"sec-fetch-site": "cross-site"},
        # Another port of this machine is the same site: its cookie is sent along.
        {"sec-fetch-site": "same-site"},
    ],
)
def test_what_other_pages_send_is_refused_although_the_cookie_is_right(headers: dict[str, str]) -> None:
    assert opened().post("/", headers=headers).status_code == 403
    answer = opened().get("/", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["detail"].count("Open the link") == 1


def test_what_the_page_itself_sends_is_served() -> None:
    answer = opened().post("/", content=b"123", headers={"origin": HOME, "sec-fetch-site": "same-origin"})
    assert (answer.status_code, answer.text) == (200, "3 bytes")


def test_a_link_on_the_page_of_somebody_else_opens_all_the_same() -> None:
    assert client().get(f"/?token={TOKEN}", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_body_over_the_limit_is_refused_whether_or_not_it_tells_its_length() -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"12345",) * 3

    browser = opened()
    assert browser.post("/", content=b"1234567890").text == "10 bytes"
    assert browser.post("/", content=b"12345678901").status_code == 413
    assert browser.post("/", content=pieces()).status_code == 413


@pytest.mark.parametrize("path", ["/", f"/?token={TOKEN}", "/nothing"])
def test_every_answer_keeps_the_browser_to_this_server(path: str) -> None:
    answer = client(policy={"img-src": "'self'"}).get(path, headers={"origin": HOME})
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_of_another_origin_is_not_answered() -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    assert client().options("/", headers=headers).status_code == 401
    assert opened().options("/", headers=headers).status_code == 403
