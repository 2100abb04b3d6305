import io
import signal

import platformdirs
import pytest

from MambaSegmentLib import console
from MambaSegmentLib.console import ProgressPrinter, stoppable, write_crash_log
from MambaSegmentLib.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_over_and_wiped():
    stream = Terminal()
    printer = ProgressPrinter(stream)
    printer(Progress("network", 1, 4, 130.0))
    printer(Progress("network", 4, 4, 0.0))
    printer.close()
    first, second, wiped, rest = stream.getvalue().split("\r")[1:]
    assert first == "network    [######..................] 1/4, 2 min left"
    assert second.rstrip() == "network    [########################] 4/4"
    assert len(second) == len(first)  # nothing of the longer line remains
    assert wiped.strip() == rest == ""
    assert "\n" not in stream.getvalue()


def test_a_log_file_gets_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    printer = ProgressPrinter(stream)
    printer(Progress("read", 0, 1))
    for done in range(13):
        printer(Progress("network", done, 12, 12.0 - done))
        now[0] += 1.0
    printer.close()
    assert stream.getvalue().splitlines() == [
        "read",
        "network 0/12, 12 s left",
        "network 5/12, 7 s left",
        "network 10/12, 2 s left",
    ]


def test_a_polite_request_to_end_is_an_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_crash_log_goes_where_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_log_path", lambda *_, **__: tmp_path / "logs")
    path = write_crash_log("mambasegment", ["segment", "ü.nii"], ValueError("the reason"))
    assert path.parent == tmp_path / "logs"
    text = path.read_text(encoding="utf-8")
    assert "ValueError: the reason" in text
    assert "ü.nii" in text

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(platformdirs, "user_log_path", lambda *_, **__: tmp_path / "file")
    monkeypatch.setattr(console.tempfile, "gettempdir", lambda: str(tmp_path))
    assert write_crash_log("mambasegment", [], ValueError()).parent == tmp_path
