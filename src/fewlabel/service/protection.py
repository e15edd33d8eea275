"""An application behind the checks of the host, the token and the size, with headers that keep a browser to it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewlabel.service.token_check import TokenCheck

#: How a browser may name this machine; any port, so that a forwarded one does (``ssh -L 9000:localhost:8600``).
HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
#: A page that may load and send nothing at all.
NOTHING = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def protected(app: ASGIApp, token: str, *, largest_body: int, policy: Mapping[str, str] | None = None) -> ASGIApp:
    """The application behind all checks.

    Args:
        app: Any ASGI application, such as one of Starlette or FastAPI.
        token: Of this server.
        largest_body: Bytes that a request may bring.
        policy: Directives of the content security policy beside :data:`NOTHING`, such as
            ``{"script-src": "'self'"}``; what an application opens should be said where it does.

    Example:
        >>> from starlette.applications import Starlette
        >>> app = protected(Starlette(), "secret", largest_body=1_000_000, policy={"img-src": "'self'"})
    """
    limited = RequestBodyLimitMiddleware(app, largest_body)
    hosted = TrustedHostMiddleware(TokenCheck(limited, token), list(HOSTS), www_redirect=False)
    return _WithHeaders(hosted, "; ".join(" ".join(pair) for pair in {**NOTHING, **(policy or {})}.items()))


class _WithHeaders:
    """Puts the headers of safety on every response; nothing is kept in a cache unless the response says so."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app, self.headers = app, {"Content-Security-Policy": policy, **_HEADERS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self.headers)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
