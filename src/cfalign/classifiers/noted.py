"""What every classifier made here tells of itself: what identifies it, and how it is read."""

from __future__ import annotations

from cfalign._errors import ModelWarning, warn
from cfalign._models.fingerprint import fingerprint


class Noted:
    """A classifier with a digest and notes."""

    _notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits that change with everything that decides its answers, as far as that can be known."""
        return fingerprint(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for ``run.json``: how its outputs are read where that is not what was said, and its weights."""
        return self._notes

    def note(self, *sentences: str | None) -> None:
        """Keep these sentences, and tell each now as a ModelWarning; None says nothing."""
        for sentence in filter(None, sentences):
            self._notes = (*self._notes, sentence)
            warn(sentence, ModelWarning, stacklevel=4)
