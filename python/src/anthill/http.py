"""Requests to the HTTP API: address, token, time limits and errors."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Iterator, Mapping, Optional

DEFAULT_URL = "http://127.0.0.1:11480"

# Largest answer that is read, and largest message of an event stream.
_ANSWER_BYTES_MAX = 1 << 30
_EVENT_BYTES_MAX = 1 << 20

# Silence after which an event stream counts as broken: three comments of the server are missing.
_SILENCE_S_MAX = 45.0


class AnthillError(Exception):
    """Base class of all errors of this package."""


class Unreachable(AnthillError):
    """No server answered at the address, or not in time."""


class ApiError(AnthillError):
    """The server refused a request. `status` is the HTTP status, `text` the server's reason."""

    def __init__(self, status: int, text: str, request: str) -> None:
        super().__init__(f"{request}: {status} {text}")
        self.status = status
        self.text = text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects alone: the token is for one server only."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Http:
    """Connection settings of one server. Proxies are not used and redirects are not followed."""

    def __init__(
        self,
        url: Optional[str],
        token_file: Optional[str],
        ca: Optional[str],
        timeout: float,
    ) -> None:
        self.url = _checked(url or os.environ.get("ANTHILL_API") or DEFAULT_URL)
        file = token_file or os.environ.get("ANTHILL_TOKEN_FILE") or None
        self._token = None if file is None else _token(file)
        self._timeout = timeout
        context = ssl.create_default_context(cafile=ca) if self.url.startswith("https:") else None
        if ca is not None and context is None:
            raise ValueError(f"ca is for an https:// address, and url is {self.url}")
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirect(),
        )

    def json(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None) -> Any:
        """Returns the JSON document that the server answers."""
        answer = self.bytes(method, path, body)
        try:
            return json.loads(answer)
        except ValueError:
            raise Unreachable(f"{self.url} gives no answer of an Anthill server") from None

    def bytes(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None) -> bytes:
        """Returns the body that the server answers."""
        with self._open(method, path, body, self._timeout) as response:
            try:
                answer: bytes = response.read(_ANSWER_BYTES_MAX)
                return answer
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{method} {self.url}{path}: {_reason(error)}") from error

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yields the messages of the event stream until the connection ends."""
        with self._open("GET", "/v1/events", None, self._timeout, _SILENCE_S_MAX) as response:
            while True:
                try:
                    line = response.readline(_EVENT_BYTES_MAX)
                except (OSError, http.client.HTTPException):
                    return
                if not line:
                    return
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    def _open(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]],
        timeout: float,
        read_timeout: Optional[float] = None,
    ) -> Any:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Connection", "close")
        if method in ("POST", "PATCH"):
            request.add_header("Content-Type", "application/json")
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=read_timeout or timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, _text(error), f"{method} {path}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no server at {self.url}: {_reason(error)}") from error


def quoted(name: str) -> str:
    """Escapes a name as one segment of a path."""
    return urllib.parse.quote(name, safe="")


def query(**parameters: Optional[object]) -> str:
    """Formats the parameters that are given as a query, with the `?`."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return "?" + urllib.parse.urlencode(given) if given else ""


def _checked(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"url must be http://HOST:PORT or https://HOST:PORT; it is {url!r}")
    return url.rstrip("/")


def _token(file: str) -> str:
    with open(file, encoding="utf-8-sig") as opened:
        token = opened.read(4096).strip()
    if not token or not all("!" <= char <= "~" for char in token):
        raise ValueError(f"{file} must hold one token of visible ASCII characters")
    return token


def _text(error: urllib.error.HTTPError) -> str:
    try:
        body = error.read(65536)
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:100].decode(errors="replace") or error.reason


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
