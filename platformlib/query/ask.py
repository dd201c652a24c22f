"""One question and its answer: retried when the fault may pass, a clear error when it will not."""

import html
import json
import re
from typing import Any, NoReturn, Unpack

import stamina

from platformlib.errors import BadQuery, QueryCancelled, QueryError, SourceUnavailable
from platformlib.query.transport import TIMEOUT, Answer, How, Params, Transport

MAY_PASS = frozenset({408, 425, 429, 502, 503, 504})
REFUSED = frozenset({400, 405, 414, 422})
DENIED = frozenset({401, 403})
ATTEMPTS = 4


def ask(transport: Transport, path: str, params: Params, **how: Unpack[How]) -> Answer:
    """The answer of status 2xx.

    Raises:
        BadQuery: the server cannot run it; never retried.
        SourceUnavailable: no answer after four attempts, or `timeout` seconds.
        QueryError: refused credentials, a wrong address, a server's own fault.
    """
    cancel = how.get("cancel")
    for attempt in stamina.retry_context(
        on=SourceUnavailable, attempts=ATTEMPTS, timeout=how.get("timeout", TIMEOUT), wait_initial=0.2, wait_max=5.0
    ):
        with attempt:
            if cancel is not None and cancel.is_set():
                raise QueryCancelled(f"{transport.name}: cancelled")
            answer = transport.get(path, params, **how)
            if answer.status // 100 != 2:  # noqa: PLR2004
                refuse(transport.name, answer)
            return answer
    raise AssertionError("unreachable: the last attempt raises")  # pragma: no cover


def refuse(name: str, answer: Answer) -> NoReturn:
    """Raise what an answer of another status means."""
    kind, said = _said(answer)
    message = f"{name}: status {answer.status}: {said or 'no reason given'}"
    if kind in ("timeout", "canceled"):
        raise QueryError(message, fix="ask for a shorter window, a larger step or fewer series")
    if answer.status in REFUSED:
        raise BadQuery(message)
    if answer.status in DENIED:
        raise QueryError(message, fix="check the credentials, and the right to `get` services/proxy")
    if answer.status in MAY_PASS:
        raise SourceUnavailable(message)
    raise QueryError(message)


def _said(answer: Answer) -> tuple[str, str]:
    """The kind of error and its text: Prometheus's and Kubernetes's JSON, Loki's text, a proxy's page."""
    text = bytes(answer.body[:4000]).decode("utf-8", "replace")
    try:
        content: Any = json.loads(answer.body)
    except ValueError:
        return "", _plain(text)
    if not isinstance(content, dict):
        return "", _plain(text)
    return str(content.get("errorType", "")), _plain(str(content.get("error") or content.get("message") or text))


def _plain(text: str) -> str:
    """A page or a long text, as one line that a person reads."""
    if "<html" in text.lower() or "<!doctype" in text.lower():
        without = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]+>", " ", text)
        text = "an HTML page, as of a proxy: " + html.unescape(without)
    return " ".join(text.split())[:500]
