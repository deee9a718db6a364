"""Names from outside are shown, and steer nothing."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.printable import make_printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clip [final].mp4", "clip [final].mp4"),
        ("größe 日本 👩\u200d🎤.mp4", "größe 日本 👩\u200d🎤.mp4"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\u202egpm.exe", r"\u202egpm.exe"),
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_steers_a_terminal_is_spelled(text, shown):
    assert make_printable(text) == shown


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_text_can_be_printed_in_one_line(text):
    shown = make_printable(text)
    assert len(shown.encode().decode().splitlines()) <= 1 and "\x1b" not in shown
    assert make_printable(shown) == shown
