"""The record of a run: what it belongs to, and how another run is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cfalign._errors import RunMismatch
from cfalign._runs.record import refuse_other


def test_differences_between_runs_are_named(tmp_path: Path) -> None:
    old = {"settings": {"limit": 200, "search": {"drop": 0.6}}, "data": {"hash": "a"}}
    refuse_other(old, json.loads(json.dumps(old)), tmp_path)
    new = {"settings": {"limit": 100, "search": {"drop": 0.5}}, "data": {"hash": "a"}}
    with pytest.raises(
        RunMismatch, match=r"settings\.limit was 200, now 100; settings\.search\.drop was 0\.6, now 0\.5"
    ):
        refuse_other(old, new, tmp_path)
