"""Who may call: by a token in the path, which every client keeps; by Slicer's login; and pages of named origins."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fewlabel.service.token_check import same_token

#: What tells a client whether it must log in, and logs it in.
LOGIN = ("/auth/", "/auth/token")
#: What a browser says of where a request comes from.
_WHENCE = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")


class KnownCallers:
    """Lets those who have the token in the path through :class:`fewlabel.service.token_check.TokenCheck`, behind it.

    ``http://127.0.0.1:8000/TOKEN/`` is an address that clients put ``info/`` and the like behind. Slicer loads scans
    by it without any header, and OHIF sends none at all, so that neither a header nor a cookie would do.

    Args:
        app: Behind the checks.
        token: Of the server.
        needed: Whether it is; without, all programs of this machine may call.
        origins: Of pages that may call, such as ``http://localhost:3000``.
    """

    def __init__(self, app: ASGIApp, token: str, *, needed: bool = True, origins: Collection[str] = ()) -> None:
        self.app, self.token, self.needed, self.origins = app, token, needed, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the token where its caller is known."""
        if scope["type"] == "http":
            first, slash, rest = scope["path"].removeprefix("/").partition("/")
            in_path = bool(slash) and same_token(first, self.token)
            headers = list(scope["headers"])
            if in_path:
                scope = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
            if in_path or not self.needed or scope["path"] in LOGIN:
                headers = [pair for pair in headers if pair[0] != b"authorization"]
                headers.append((b"authorization", f"Bearer {self.token}".encode()))
            if Headers(scope=scope).get("origin") in self.origins:
                headers = [pair for pair in headers if pair[0] not in _WHENCE]
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)


def for_callers(app: ASGIApp, token: str, *, needed: bool, origins: Collection[str]) -> ASGIApp:
    """The application for all who may call; CORS stays closed but for the named origins."""
    known = KnownCallers(app, token, needed=needed, origins=origins)
    if not origins:
        return known
    return CORSMiddleware(
        known, allow_origins=list(origins), allow_methods=["GET", "POST", "PUT", "DELETE"], allow_headers=["*"]
    )
