"""What is shown of work that goes on."""

from __future__ import annotations

import pytest

from frugalseg.jobs import show


def seconds(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the clock say these, one after the other."""
    clock = iter(values)
    monkeypatch.setattr("frugalseg.jobs.show.time.monotonic", lambda: next(clock))


def test_in_a_pipe_long_work_that_no_plan_counts_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth is done in 30 seconds: nine times as long is left. Nothing is said before, and nothing again."""
    seconds(monkeypatch, 100.0, 110.0, 130.0, 140.0)
    with show.bar("registering", 20, told=True) as advance:
        advance()
        assert capsys.readouterr().err == ""
        advance()
        assert capsys.readouterr().err == "registering: 2 of 20 in 30 s, about 4 min more\n"
        advance()
        assert capsys.readouterr().err == ""


def test_what_is_done_in_less_than_a_minute_is_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A half in 59 seconds leaves less than a minute."""
    seconds(monkeypatch, 0.0, 59.0)
    with show.bar("registering", 2, told=True) as advance:
        advance()
    assert capsys.readouterr().err == ""


def test_a_pipe_is_quiet_by_default(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """However long it takes."""
    seconds(monkeypatch, 0.0, 1000.0)
    with show.bar("preparing", 1000) as advance:
        advance()
    assert capsys.readouterr().err == ""
