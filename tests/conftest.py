"""What holds for every test."""

from __future__ import annotations

import pytest

from frugalseg.jobs import show


@pytest.fixture(autouse=True)
def speaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test that silences its process, as a run's further processes do, silence no other test."""
    monkeypatch.setattr(show, "_muted", False)
