import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.worker.protocol import (
    LARGEST_LINE_BYTES,
    Cancel,
    Failed,
    Hello,
    JobProgress,
    LineSplitter,
    Load,
    Options,
    ProtocolError,
    Quit,
    Ready,
    Result,
    Segment,
    Unload,
    decode_command,
    decode_event,
    encode,
)

COMMANDS = [
    Load("1", "hippocampus-t1"),
    Segment("2", ("a.nii", "b.nii"), "m", "out.seg.nrrd", Options("cuda:1", 0.25, True)),
    Segment("ü\n", {"T1": "C:\\Bilder\\größe \U0001f9e0\ud800.nii"}, "m", "o.mha"),  # even half a surrogate pair
    Unload("3"),
    Unload("3", "m"),
    Cancel("2"),
    Quit(),
]
EVENTS = [
    Hello(1, "0.1.0", 4242),
    Ready(({"name": "cpu", "memory_bytes": None},), ({"name": "numba", "available": True},)),
    JobProgress("2", "network", 3, 8, 1.5),
    JobProgress("2", "read", 0, 1),
    Result("2", ("out.seg.nrrd",), ({"value": 1, "name": "Löwe"},), {"network": 0.5}),
    Failed(None, "ConfigError", "what came\nwhat was expected", "what to do"),
]


@pytest.mark.parametrize("message", COMMANDS, ids=lambda message: type(message).__name__)
def test_a_command_arrives_as_it_was_sent(message):
    line = encode(message)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_command(line) == message


@pytest.mark.parametrize("message", EVENTS, ids=lambda message: type(message).__name__)
def test_an_event_arrives_as_it_was_sent(message):
    assert decode_event(encode(message)) == message


def test_the_line_is_what_the_design_says():
    assert json.loads(encode(JobProgress("7", "network", 1, 4, 2.0))) == {
        "type": "progress", "job": "7", "stage": "network", "done": 1, "total": 4, "seconds_left": 2.0,
    }  # fmt: skip
    assert json.loads(encode(Segment("7", ("a",), "m", "o")))["options"] == {
        "device": "auto", "overlap": None, "statistics": False,
        "strict": False, "allow_nonfinite": False, "series": [],
        "quality": "best", "roi": None, "labels": [], "memory_limit": None,
        "uncertainty": None, "probabilities": None, "sidecar": None,
        "folds": None, "precision": "auto", "disagreement": None, "calibrations": [],
    }  # fmt: skip


SEGMENT = {"type": "segment", "job": "7", "inputs": ["a"], "model": "m", "output": "o"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"type": "segmnt"}, "type of a message is 'segmnt'; expected load, segment"),
        ({"type": ["segment"]}, "type of a message is"),
        ({"type": "result"}, "type of a message is 'result'"),  # an event is no command
        ({"inputs": None}, "inputs of segment is None; expected a list of paths"),
        ({"inputs": []}, "expected a list of paths"),
        ({"inputs": {"T1": 3}}, "expected a text"),
        ({"inputs": "a"}, "expected a list of paths"),
        ({"model": ""}, "model of segment is ''; expected a text that is not empty"),
        ({"output": "a\0b"}, "expected a text"),
        ({"device": "cpu"}, "segment has no key 'device'; known: job, inputs"),
        ({"options": {"tile": 3}}, "options has no key 'tile'"),
        ({"options": {"overlap": 0.95}}, "overlap 0.95 must be"),
        ({"options": {"overlap": True}}, "expected a finite number"),
        ({"options": {"overlap": 10**400}}, "expected a finite number"),
        ({"options": {"quality": "great"}}, "quality 'great' is unknown; expected best, balanced or fast"),
        ({"options": {"roi": "voxels:3:3,0:4,0:4"}}, "which holds nothing"),
        ({"options": {"roi": "the liver"}}, "cannot be understood; expected voxels:"),
        ({"options": {"labels": "Anterior"}}, "labels of options is 'Anterior'; expected a list"),
        ({"options": {"memory_limit": "much"}}, "expected a size such as 3GB"),
        ({"options": {"device": None}}, "device of options is None"),
        ({"options": {"statistics": 1}}, "expected true or false"),
        ({"options": 3}, "expected a JSON object"),
    ],
)
def test_a_wrong_field_is_named_and_so_is_the_job(change, expected):
    with pytest.raises(ProtocolError) as caught:
        decode_command(json.dumps(SEGMENT | change).encode())
    assert expected in str(caught.value)
    assert caught.value.job == "7"


def test_a_missing_field_and_an_impossible_job():
    line = json.dumps({key: value for key, value in SEGMENT.items() if key != "output"}).encode()
    with pytest.raises(ProtocolError, match="segment lacks output"):
        decode_command(line)
    for job in (None, 3, "", "x" * 201):
        with pytest.raises(ProtocolError, match="job of segment") as caught:
            decode_command(json.dumps(SEGMENT | {"job": job}).encode())
        assert caught.value.job is None


@pytest.mark.parametrize(
    "line",
    [b"hello", b"[1, 2]", b"3", b'{"type": "quit"', b"\xff\xfe", b'{"type": "cancel", "job": NaN}', b"[" * 100_000,
     b'{"type": "cancel", "job": ' + b"9" * 5000 + b"}", b"x" * (LARGEST_LINE_BYTES + 1)],
    ids=["text", "list", "number", "cut off", "no UTF-8", "NaN", "nested", "a number of 5000 digits", "too long"],
)  # fmt: skip
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ProtocolError):
        decode_command(line)


@given(st.binary(max_size=200))
def test_no_line_does_anything_but_be_refused(line):
    with pytest.raises(ProtocolError):
        decode_event(line)


def test_a_wrong_message_fails_where_it_is_made():
    with pytest.raises(ConfigError, match="expected a list of paths"):
        Segment("7", (), "m", "o")
    with pytest.raises(ConfigError, match="expected an integer"):
        Hello(1, "0.1", -3)
    with pytest.raises(ConfigError, match="expected a finite number"):
        Result("7", timings={"network": float("nan")})
    with pytest.raises(ConfigError, match="cannot be sent"):
        encode(Result("7", segments=({"value": {1, 2}},)))
    with pytest.raises(ConfigError, match="at most 1048576 can"):
        encode(Failed("7", "ImageError", "x" * LARGEST_LINE_BYTES))


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line and line.strip())), st.data())
def test_lines_are_the_same_in_whatever_pieces_they_come(lines, data):
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    splitter = LineSplitter()
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [line for piece in pieces for line in splitter.feed(piece)] == lines


def test_of_an_endless_line_little_is_kept_and_the_next_one_counts():
    splitter = LineSplitter()
    for _ in range(40):
        assert list(splitter.feed(b"x" * 100_000)) == []
    long, good = splitter.feed(b"y\r\n\n \n" + encode(Quit()))
    assert len(long) == LARGEST_LINE_BYTES + 1
    assert decode_command(good) == Quit()


def test_nothing_heavy_is_imported(fresh_python):
    script = (
        "import sys\nimport MambaSegmentLib.worker.protocol\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    fresh_python(script)
