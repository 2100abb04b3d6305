"""What worker and client say to each other: dataclasses, one JSON object a line.

    client -> worker: load, segment, unload (each names a job), cancel, quit
    worker -> client: hello at once, ready when torch is loaded, progress, and one result or failed for each job

A line is ASCII (other characters as JSON escapes), ends in a newline and holds at most LARGEST_LINE_BYTES. Its key
`type` says what it is; the other keys are the fields below. A key that is missing, unknown or of the wrong type is
refused: both sides come from one version of the library, and `hello` says which. No torch here: Slicer's process
imports this file.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError
from ..memory import bytes_from_text
from ..quality import check_precision, check_quality, folds_from_text, one_for_each
from ..roi import parse_roi

PROTOCOL = 1  # changes when an older partner would misunderstand
LARGEST_LINE_BYTES = 1 << 20
_LONGEST_JOB = 200  # characters of a job's name
_LARGEST_NUMBER = 1e300
_SHOWN = 80  # characters of a refused value that a message repeats


class ProtocolError(ConfigError):
    """A line that is no message; `job` is the job it names, where that much could be understood."""

    def __init__(self, message: str, job: str | None = None) -> None:
        super().__init__(message)
        self.job = job


Check = Callable[[Any], Any]  # gives the value as it is stored, raises TypeError with what was expected


def _is(check: Check) -> Mapping[str, Check]:
    return MappingProxyType({"check": check})


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError("a text that is not empty")
    return value


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _job(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_JOB:
        raise TypeError(f"a text of 1 to {_LONGEST_JOB} characters")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("an integer of 0 or more")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER:
        return float(value)
    raise TypeError("a finite number")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError("a JSON object")
    return value


def _timings(value: Any) -> dict[str, float]:
    return {name: _number(seconds) for name, seconds in _object(value).items()}


def _inputs(value: Any) -> tuple[str, ...] | dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {_text(name): _text(path) for name, path in value.items()}
    if isinstance(value, list | tuple) and value:
        return tuple(_text(path) for path in value)
    raise TypeError("a list of paths, or an object from channel names to paths")


def _one_or_several(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, list | tuple) and value:
        return tuple(_text(entry) for entry in value)
    try:
        return _text(value)
    except TypeError as problem:
        raise TypeError("a text that is not empty, or a list of such") from problem


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _list_of(check: Check) -> Check:
    def listed(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError("a list")
        return tuple(check(entry) for entry in value)

    return listed


@dataclass(frozen=True)
class _Message:
    """Checks its fields however it was made, so that a wrong message fails where it was written.

    Raises:
        ConfigError: a field of the wrong type.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            try:
                object.__setattr__(self, entry.name, entry.metadata["check"](value))
            except TypeError as problem:
                raise ConfigError(
                    f"{entry.name} of {type(self).__name__.lower()} is {_short(value)}; expected {problem}"
                ) from problem


@dataclass(frozen=True)
class Options(_Message):
    """How to compute.

    Attributes:
        device: as for `devices.choose_device`.
        overlap: of neighbouring tiles, 0 to 0.9; None takes the model's.
        statistics: measure each segment, as `SegmentStatistics` says.
        quality: as for `quality.py`; folds: as for `quality.folds_from_text`; of several models one text for all, or a
            list with one for each.
        precision: as for `inference/arithmetic.py`.
        roi: as for `roi.py`; labels: the names of the segments that are wanted, none means all;
        memory_limit: as for `memory.bytes_from_text`; None takes what is free.
        uncertainty, disagreement, probabilities, sidecar: files to write besides, as for `extras.Extras`.
        calibrations: files to read, as for `extras.Extras`.
        strict, allow_nonfinite, series: as for `api.Model.segment`; of no effect on a model, and so on `load`.
    """

    device: str = field(default="auto", metadata=_is(_text))
    overlap: float | None = field(default=None, metadata=_is(_optional(_number)))
    statistics: bool = field(default=False, metadata=_is(_flag))
    strict: bool = field(default=False, metadata=_is(_flag))
    allow_nonfinite: bool = field(default=False, metadata=_is(_flag))
    series: tuple[str, ...] = field(default=(), metadata=_is(_list_of(_any_text)))
    quality: str | tuple[str, ...] = field(default="best", metadata=_is(_one_or_several))
    roi: str | None = field(default=None, metadata=_is(_optional(_text)))
    labels: tuple[str, ...] = field(default=(), metadata=_is(_list_of(_text)))
    memory_limit: str | None = field(default=None, metadata=_is(_optional(_text)))
    uncertainty: str | None = field(default=None, metadata=_is(_optional(_text)))
    probabilities: str | None = field(default=None, metadata=_is(_optional(_text)))
    sidecar: str | None = field(default=None, metadata=_is(_optional(_text)))
    folds: str | tuple[str, ...] | None = field(default=None, metadata=_is(_optional(_one_or_several)))
    precision: str = field(default="auto", metadata=_is(_text))
    disagreement: str | None = field(default=None, metadata=_is(_optional(_text)))
    calibrations: tuple[str, ...] = field(default=(), metadata=_is(_list_of(_text)))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap is not None and not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"overlap {self.overlap} must be a fraction of the tile from 0 to 0.9")
        for quality in self.qualities:
            check_quality(quality)
        for folds in self.folds_of_each:
            folds_from_text(folds)
        check_precision(self.precision)
        if self.roi is not None:
            parse_roi(self.roi)
        if self.memory_limit is not None:
            bytes_from_text(self.memory_limit)

    @property
    def qualities(self) -> tuple[str, ...]:
        """One for all models, or one for each."""
        return (self.quality,) if isinstance(self.quality, str) else self.quality

    @property
    def folds_of_each(self) -> tuple[str | None, ...]:
        """The same of the folds."""
        return self.folds if isinstance(self.folds, tuple) else (self.folds,)

    def of_models(self, count: int) -> "list[Options]":
        """The options of each of several models. Raises: ConfigError, values for another number of models."""
        qualities = one_for_each("quality", self.qualities, count)
        folds = one_for_each("folds", self.folds_of_each, count)
        return [replace(self, quality=one, folds=other) for one, other in zip(qualities, folds, strict=True)]


def _options(value: Any) -> Options:
    return value if isinstance(value, Options) else _built(Options, "options", _object(value))


@dataclass(frozen=True)
class Load(_Message):
    """Load a model and warm it up, unless it is warm; answered by a Result without files."""

    job: str = field(metadata=_is(_job))
    model: str = field(metadata=_is(_text))
    options: Options = field(default=Options(), metadata=_is(_options))


@dataclass(frozen=True)
class Segment(_Message):
    """Segment one case.

    Attributes:
        inputs: paths in the order of the model's channels, or from channel names to paths.
        model: a file or a name, or several of them, which are painted over one another (`merging.py`).
        output: a path with an ending that `write_segmentation` knows.
    """

    job: str = field(metadata=_is(_job))
    inputs: tuple[str, ...] | Mapping[str, str] = field(metadata=_is(_inputs))
    model: str | tuple[str, ...] = field(metadata=_is(_one_or_several))
    output: str = field(metadata=_is(_text))
    options: Options = field(default=Options(), metadata=_is(_options))

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,) if isinstance(self.model, str) else self.model


@dataclass(frozen=True)
class Unload(_Message):
    """Forget a model, or all of them, and give their memory back; answered by a Result without files."""

    job: str = field(metadata=_is(_job))
    model: str | None = field(default=None, metadata=_is(_optional(_text)))


@dataclass(frozen=True)
class Cancel(_Message):
    """Stop a job; its answer is `failed` with kind Cancelled. A job that is not known has ended already."""

    job: str = field(metadata=_is(_job))


@dataclass(frozen=True)
class Quit(_Message):
    """Cancel everything and end, as at the end of input."""


@dataclass(frozen=True)
class Hello(_Message):
    """The first line of a worker; `pid` is that of the interpreter itself, not of a launcher."""

    protocol: int = field(metadata=_is(_count))
    version: str = field(metadata=_is(_text))
    pid: int = field(metadata=_is(_count))


@dataclass(frozen=True)
class Ready(_Message):
    """Torch is loaded; `devices` and `backends` as in the report of `doctor.examine` (devices, kernels)."""

    devices: tuple[Mapping[str, Any], ...] = field(metadata=_is(_list_of(_object)))
    backends: tuple[Mapping[str, Any], ...] = field(metadata=_is(_list_of(_object)))


@dataclass(frozen=True)
class JobProgress(_Message):
    """How far a job is; the fields of `progress.Progress`."""

    job: str = field(metadata=_is(_job))
    stage: str = field(metadata=_is(_text))
    done: int = field(metadata=_is(_count))
    total: int = field(metadata=_is(_count))
    seconds_left: float | None = field(default=None, metadata=_is(_optional(_number)))


@dataclass(frozen=True)
class Result(_Message):
    """A job is done.

    Attributes:
        files: what was written.
        segments: `SegmentInfo.to_json` of each; with statistics also the figures of `SegmentStatistics`, with
            uncertainty also `mean_uncertainty`, with disagreement `mean_disagreement`, of several models `model`.
        timings: seconds of each stage.
        warnings: what a person should know about the images, as sentences.
    """

    job: str = field(metadata=_is(_job))
    files: tuple[str, ...] = field(default=(), metadata=_is(_list_of(_text)))
    segments: tuple[Mapping[str, Any], ...] = field(default=(), metadata=_is(_list_of(_object)))
    timings: Mapping[str, float] = field(default_factory=dict, metadata=_is(_timings))
    warnings: tuple[str, ...] = field(default=(), metadata=_is(_list_of(_any_text)))


@dataclass(frozen=True)
class Failed(_Message):
    """A job is over without result, or a line could not be understood (then `job` may be None).

    Attributes:
        kind: a class of `errors.py`, or the class of a bug's exception.
        advice: what to do; may be empty.
    """

    job: str | None = field(metadata=_is(_optional(_job)))
    kind: str = field(metadata=_is(_text))
    message: str = field(metadata=_is(_any_text))
    advice: str = field(default="", metadata=_is(_any_text))


Command = Load | Segment | Unload | Cancel | Quit
Event = Hello | Ready | JobProgress | Result | Failed

COMMANDS: Mapping[str, type[_Message]] = MappingProxyType(
    {"load": Load, "segment": Segment, "unload": Unload, "cancel": Cancel, "quit": Quit}
)
EVENTS: Mapping[str, type[_Message]] = MappingProxyType(
    {"hello": Hello, "ready": Ready, "progress": JobProgress, "result": Result, "failed": Failed}
)
_NAMES = {kind: name for table in (COMMANDS, EVENTS) for name, kind in table.items()}


def encode(message: Command | Event) -> bytes:
    """A message as its line, newline included.

    Raises:
        ConfigError: it is too long, or holds something that JSON cannot.
    """
    try:
        document = {"type": _NAMES[type(message)], **_plain(message)}
        line = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"a {type(message).__name__.lower()} cannot be sent: {problem}") from problem
    if len(line) > LARGEST_LINE_BYTES:
        raise ConfigError(
            f"a {type(message).__name__.lower()} of {len(line)} bytes cannot be sent; at most {LARGEST_LINE_BYTES} can"
        )
    return line


def decode_command(line: bytes) -> Command:
    """The command on a line. Raises: ProtocolError, when it is none."""
    return _decode(line, COMMANDS)


def decode_event(line: bytes) -> Event:
    """The event on a line. Raises: ProtocolError, when it is none."""
    return _decode(line, EVENTS)


class LineSplitter:
    """Cuts a stream that comes in pieces into lines; of a line that is too long only the beginning is kept."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now, without their ends and without blank ones."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._extend(end)
            line = bytes(self._begun)
            self._begun.clear()
            if line.strip():
                yield line
        self._extend(rest)

    def _extend(self, piece: bytes) -> None:
        self._begun += piece[: LARGEST_LINE_BYTES + 1 - len(self._begun)]  # one more than allowed, to be refused


def _decode(line: bytes, known: Mapping[str, type[_Message]]) -> Any:
    if len(line) > LARGEST_LINE_BYTES:
        raise ProtocolError(f"a line of more than {LARGEST_LINE_BYTES} bytes came; send large data as files")
    try:
        document = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(f"a line is no JSON ({problem}): {_short(line.decode('utf-8', 'replace'))}") from problem
    if not isinstance(document, dict):
        raise ProtocolError(f"a line holds {_short(document)}; expected a JSON object with the key type")
    job = document.get("job")
    job = job if isinstance(job, str) and 0 < len(job) <= _LONGEST_JOB else None
    name = document.pop("type", None)
    if not isinstance(name, str) or name not in known:
        raise ProtocolError(f"the type of a message is {_short(name)}; expected {', '.join(known)}", job)
    try:
        return _built(known[name], name, document)
    except ConfigError as problem:
        raise ProtocolError(str(problem), job) from problem


def _built(kind: Any, name: str, document: Mapping[str, Any]) -> Any:
    """An instance of a dataclass from the keys of a JSON object, no key more and none less."""
    known = {entry.name: entry for entry in fields(kind)}
    unknown = set(document) - set(known)
    if unknown:
        raise ConfigError(f"{name} has no key {_short(sorted(unknown)[0])}; known: {', '.join(known) or 'none'}")
    needed = [key for key, e in known.items() if e.default is MISSING and e.default_factory is MISSING]
    missing = [key for key in needed if key not in document]
    if missing:
        raise ConfigError(f"{name} lacks {', '.join(missing)}")
    return kind(**document)


def _plain(message: Any) -> dict[str, Any]:
    document = {entry.name: getattr(message, entry.name) for entry in fields(message)}
    return {key: _plain(value) if isinstance(value, Options) else value for key, value in document.items()}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
