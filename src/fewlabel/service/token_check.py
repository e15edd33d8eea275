"""Who may ask: those with the token of this server, in the link, a cookie or a header."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Word of the query that the token of a link stands behind.
QUERY = "token"
#: What browsers say of requests of the page itself, and of those that a person typed or clicked in another program.
_OWN_SITES = frozenset({"same-origin", "none"})


def new_token() -> str:
    """A token that nobody guesses: 256 random bits, fit for a link."""
    return secrets.token_urlsafe(32)


def cookie_name(token: str) -> str:
    """Name of the cookie: browsers send cookies to all ports of a machine, and each server needs its own."""
    return f"fewlabel_{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def same_token(given: str, token: str) -> bool:
    """Whether a token is the right one, in a time that does not tell how many of its bytes are."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


class TokenCheck:
    """Answers 401 to requests without the token, and 403 to those that pages of other origins have a browser send.

    A request with the right ``?token=`` is answered, and its answer sets a cookie that scripts cannot read and that is
    sent from the same site alone. Programs may send ``Authorization: Bearer TOKEN`` instead.

    Args:
        app: Whom requests with the token are passed to.
        token: As :func:`new_token` makes it.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie_name(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        in_link = self._right(QueryParams(scope["query_string"]).get(QUERY, ""))
        if not (in_link or self._right(_bearer(headers)) or self._right(self._of_cookie(headers))):
            await _refused(401, "The token is missing or wrong", scope, send)
        elif not in_link and _from_elsewhere(headers):
            await _refused(403, "This request comes from another page", scope, send)
        else:
            await self.app(scope, receive, self._remembering(send) if in_link else send)

    def _right(self, given: str) -> bool:
        return same_token(given, self.token)

    def _of_cookie(self, headers: Headers) -> str:
        # As browsers write them: programs on other ports of this machine set cookies that the standard does not allow.
        return cookie_parser(headers.get("cookie", "")).get(self.cookie, "")

    def _remembering(self, send: Send) -> Send:
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        return with_cookie


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that the page of another origin sends this; programs that are no browsers say nothing."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return True
    return headers.get("sec-fetch-site", "none") not in _OWN_SITES


async def _refused(status: int, problem: str, scope: Scope, send: Send) -> None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await JSONResponse({"detail": f"{problem}. Open the link that the terminal shows."}, status)(scope, nothing, send)
