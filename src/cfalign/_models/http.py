"""Requests that survive a busy server: the retries are urllib3's."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import TimeoutError as TimedOut
from urllib3.util import Retry

NO_ANSWER = "no answer in time"


def session(*, attempts: int = 4, pause: float = 0.5) -> requests.Session:
    """A session that asks again after a timeout, a lost connection or an answer 5xx, ``attempts`` times in all.

    The second attempt follows at once, the third after 2 · ``pause`` seconds, and each pause is twice the one before.
    What breaks off once an answer has begun is not asked again.
    """
    retries = Retry(
        total=attempts - 1,
        backoff_factor=pause,
        status_forcelist=range(500, 600),
        allowed_methods=None,  # a question about images changes nothing on the server, also as a POST
        raise_on_status=False,
        respect_retry_after_header=False,  # a server may ask for hours
    )
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, HTTPAdapter(max_retries=retries))
    return made


def failure(error: BaseException) -> str:
    """Why a request failed, in a few words: ``no answer in time``, or what the system says."""
    chain = _causes(error)
    told = next((cause.strerror for cause in reversed(chain) if isinstance(cause, OSError) and cause.strerror), None)
    if told is None and any(isinstance(cause, requests.Timeout | TimedOut) for cause in chain):
        return NO_ANSWER
    text = told or str(chain[-1]) or type(chain[-1]).__name__
    return " ".join(text.split()).rstrip(".").lower()[:200]


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what lies behind it, as requests and urllib3 nest them; the innermost is the last."""
    chain: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in chain:
        chain.append(inner)
        nested = [getattr(inner, "reason", None), *inner.args, inner.__cause__]
        inner = next((part for part in nested if isinstance(part, BaseException)), None)
    return chain
