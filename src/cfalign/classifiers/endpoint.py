"""A classifier behind an address: a black box over HTTP. The contract is in ``README.md`` beside this file."""

from __future__ import annotations

import base64
import json
import time
from hashlib import sha256
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign.classifiers.batches import batched
from cfalign.classifiers.black_box import BlackBox
from cfalign.classifiers.wrapped import checked_targets, prepared, resized_and_normalised

TIMEOUT = 60.0
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt; doubled for each further one
LARGEST = 2**26  # bytes of an answer


class Endpoint:
    """Images [n, c, h, w] in [0, 1] to probabilities [n, target], asked from a server in batches. Without
    ``__dict__``: how it is reached decides no answer.
    """

    __slots__ = ("_address", "_attempts", "_batch", "_channels", "_pause", "_size", "_timeout", "targets")

    def __init__(self, address: str, *, timeout: float, attempts: int, pause: float) -> None:
        self._address, self._timeout, self._attempts, self._pause = address, timeout, attempts, pause
        described = self._ask(None)
        self.targets = self._targets(described)
        self._size = self._whole(described, "size", None)
        self._batch = self._whole(described, "batch", 16)
        self._channels = self._whole(described, "channels", 3)
        if self._channels not in (1, 3):
            raise BadModel(f"{address} says channels {self._channels}; expected 1 or 3.")

    @property
    def digest(self) -> str:
        """Hash of the address and of what the server says of itself; whether its model changed cannot be seen."""
        said = (self._address, self.targets, self._size, self._channels)
        return sha256(repr(said).encode()).hexdigest()[:16]

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities. BadModel when the server breaks the contract, BadInput when it cannot be reached."""
        x = prepared(images.float(), resized_and_normalised(self._size, None), name=self._address).cpu().clamp(0, 1)
        if self._channels == 1 and x.shape[1] != 1:
            x = x.mean(dim=1, keepdim=True)
        return batched(self._scores, x, most=self._batch)

    def _scores(self, images: Tensor) -> Tensor:
        data = base64.b64encode(images.contiguous().numpy().astype("<f4").tobytes()).decode("ascii")
        answer = self._ask({"images": {"shape": list(images.shape), "dtype": "float32", "data": data}})
        if not isinstance(answer, dict) or "scores" not in answer:
            raise BadModel(f"{self._address} answered images without scores; expected an object with the key scores.")
        try:
            scores = torch.tensor(answer["scores"], dtype=torch.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadModel(
                f"{self._address} answered scores that are no table of numbers; expected one list of "
                f"{len(self.targets)} probabilities per image."
            ) from error
        wanted = [len(images), len(self.targets)]
        if list(scores.shape) != wanted:
            raise BadModel(
                f"{self._address} answered scores of shape {list(scores.shape)}; expected {wanted}: images, targets."
            )
        if not torch.isfinite(scores).all():
            raise BadModel(f"{self._address} answered NaN or infinity among its scores; expected probabilities.")
        if scores.min() < 0 or scores.max() > 1:
            raise BadModel(
                f"{self._address} answered scores between {scores.min():.3g} and {scores.max():.3g}; expected "
                "probabilities in [0, 1]: apply its sigmoid or softmax first."
            )
        return scores

    def _ask(self, content: Any) -> Any:
        """The server's JSON to a GET (no content) or POST. Repeated where a later attempt may succeed."""
        for attempt in range(1, self._attempts + 1):
            try:
                return self._once(content)
            except HTTPError as error:
                with error:
                    reason = f"answered {error.code} {error.reason}"
                if error.code < 500:
                    raise BadInput(f"{self._address} {reason}; expected the contract of an endpoint.") from error
            except (URLError, HTTPException, OSError) as error:  # refused, reset, timed out, cut short
                cause = getattr(error, "reason", error)
                slow = isinstance(cause, TimeoutError)
                reason = f"gave no answer in {self._timeout:g} s" if slow else f"cannot be reached ({_words(cause)})"
            if attempt < self._attempts:
                time.sleep(self._pause * 2 ** (attempt - 1))
        raise BadInput(f"{self._address} {reason}, {self._attempts} times; start the server, or correct the address.")

    def _once(self, content: Any) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "cfalign"}
        body = None if content is None else json.dumps(content).encode("ascii")
        with urlopen(Request(self._address, data=body, headers=headers), timeout=self._timeout) as response:
            answer = response.read(LARGEST + 1)
        if len(answer) > LARGEST:
            raise BadModel(f"{self._address} answered more than {LARGEST >> 20} MiB; expected scores alone.")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise BadModel(f"{self._address} did not answer JSON; its answer begins with {answer[:40]!r}.") from error

    def _targets(self, described: Any) -> tuple[str, ...]:
        names = described.get("targets") if isinstance(described, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadModel(
                f'{self._address} does not describe a classifier; expected {{"targets": ["smiling", …], "size": 224, '
                '"channels": 3, "batch": 16} as its answer to GET.'
            )
        try:
            return checked_targets(names)
        except BadInput as error:
            raise BadModel(f"{self._address}: {error}") from error

    def _whole(self, described: dict[str, Any], key: str, default: int | None) -> int | None:
        value = described.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise BadModel(f"{self._address} says {key} {value!r}; expected a whole number, or null.")
        return default if value is None else value


def _words(cause: object) -> str:
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(str(text).split()).rstrip(".").lower()[:200]


def load(address: str, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS, pause: float = PAUSE) -> BlackBox:
    """The classifier at the address. Asks for its description; images follow when it is used.

    ``timeout``: seconds without any byte; ``attempts``: at most, after a timeout, a lost connection or an answer 5xx,
    never after 4xx; ``pause``: seconds before the second one, doubled for each further one.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"{address!r} is no address: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"{address!r} is no address; expected http://host:port/path.")
    model = Endpoint(address, timeout=timeout, attempts=attempts, pause=pause)
    name = parts.path.strip("/").rpartition("/")[2] or parts.hostname
    box = BlackBox(model, model.targets, name=name)
    box.digest = model.digest
    return box
