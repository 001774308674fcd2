"""A classifier behind an address: a black box over HTTP. The contract is in docs/http.md."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import requests
import torch
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._heads.names import head_names
from cfalign._models.http import NO_ANSWER, failure, session
from cfalign.classifiers.black_box import BlackBox
from cfalign.classifiers.exported.input_shape import batched
from cfalign.classifiers.preprocessing import resized_and_normalised
from cfalign.classifiers.wrapped_classifier import prepared

TIMEOUT = 60.0
ATTEMPTS = 4
PAUSE = 0.5
LARGEST = 2**26  # bytes of an answer
HEADERS = {"Accept": "application/json", "User-Agent": "cfalign"}


class Endpoint:
    """Images [n, c, h, w] in [0, 1] to probabilities [n, target], which a server gives batch by batch."""

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
        """Hash of the address and the server's description; a change of the model behind it is not seen."""
        said = (self._address, self.targets, self._size, self._channels)
        return sha256(repr(said).encode()).hexdigest()[:16]

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities. Raises BadModel when the server breaks the contract, BadInput when it cannot be reached."""
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
        """The server's answer to a GET (without content) or POST, read as JSON."""
        method = "GET" if content is None else "POST"
        try:
            with (
                session(attempts=self._attempts, pause=self._pause) as asking,
                asking.request(
                    method, self._address, json=content, headers=HEADERS, timeout=self._timeout, stream=True
                ) as response,
            ):
                self._check_status(response)
                answer = b"".join(self._limited(response))
        except requests.RequestException as error:
            reason = failure(error)
            slow = reason == NO_ANSWER
            what = f"gave no answer in {self._timeout:g} s" if slow else f"cannot be reached ({reason})"
            raise BadInput(
                f"{self._address} {what}, {self._attempts} times; start the server, or correct the address."
            ) from error
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise BadModel(f"{self._address} did not answer JSON; its answer begins with {answer[:40]!r}.") from error

    def _check_status(self, response: requests.Response) -> None:
        told = f"{self._address} answered {response.status_code} {response.reason}"
        if response.status_code >= 500:
            raise BadInput(f"{told}, {self._attempts} times; start the server, or correct the address.")
        if not response.ok:
            raise BadInput(f"{told}; expected the contract of an endpoint.")

    def _limited(self, response: requests.Response) -> Iterator[bytes]:
        length = 0
        for piece in response.iter_content(2**16):
            length += len(piece)
            if length > LARGEST:
                raise BadModel(f"{self._address} answered more than {LARGEST >> 20} MiB; expected scores alone.")
            yield piece

    def _targets(self, described: Any) -> tuple[str, ...]:
        names = described.get("targets") if isinstance(described, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadModel(
                f'{self._address} does not describe a classifier; expected {{"targets": ["smiling", …], "size": 224, '
                '"channels": 3, "batch": 16} as its answer to GET.'
            )
        try:
            return head_names(names)
        except BadInput as error:
            raise BadModel(f"{self._address}: {error}") from error

    def _whole(self, described: dict[str, Any], key: str, default: int | None) -> int | None:
        value = described.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise BadModel(f"{self._address} says {key} {value!r}; expected a whole number, or null.")
        return default if value is None else value


def load(address: str, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS, pause: float = PAUSE) -> BlackBox:
    """The classifier at the address, whose description is asked for at once.

    ``timeout``: seconds without a byte. ``attempts`` and ``pause``: see ``_models.http.session``. The server is asked
    again after a timeout, a lost connection or an answer 5xx, but not after 4xx. Raises BadInput when it cannot be
    reached, and BadModel when its description breaks the contract.
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
    return BlackBox(model, model.targets, name=name, version=model.digest)
