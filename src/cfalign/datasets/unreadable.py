"""Why one image cannot be decoded."""

from __future__ import annotations


class Unreadable(Exception):
    """An image that cannot be decoded; the message is the reason, in one line."""
