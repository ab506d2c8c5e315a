"""The record of a run: one JSON object a line, appended and flushed to the disk before the run goes on.

A float is written as Python's ``repr`` writes it, so that it is read back bit for bit. A line that a crash cut off can
only be the last one; reading reports it, and opening for appending takes it away.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from gpu_gs.errors import TaskError

FORMAT = 1
"""Version of the journal's format."""

NAME = "journal.jsonl"

Event = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What a journal says.

    Attributes:
        events: All events, in order; the first is ``start``.
        torn: Bytes of a last line that was cut off, 0 if there is none.
        length: Bytes up to the end of the last whole line.
    """

    events: tuple[Event, ...]
    torn: int = 0
    length: int = 0

    def all(self, kind: str) -> list[Event]:
        """The events of a kind, in order."""
        return [event for event in self.events if event["event"] == kind]

    def last(self, kind: str) -> Event | None:
        """The latest event of a kind."""
        return next((event for event in reversed(self.events) if event["event"] == kind), None)

    @property
    def start(self) -> Event:
        return self.events[0]


def read(path: str | Path) -> Record:
    """Reads a journal.

    Args:
        path: The file, or the run's folder.

    Raises:
        TaskError: There is none, it has another format, or a line before the last one is damaged.
    """
    path = _file(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file; is {path.parent} the folder of a run?") from None
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror or error}") from None
    events: list[Event] = []
    length = 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        whole = number < len(lines)  # what follows the last newline is empty or torn
        event = _parse(line) if whole else None
        if event is None:
            if any(rest.strip() for rest in lines[number:]):
                raise TaskError(f"{path}: line {number} is damaged; only the last line can be mended")
            break
        events.append(event)
        length += len(line) + 1
    if not events or events[0].get("event") != "start":
        raise TaskError(f"{path}: does not begin with a start event; nothing of this run can be used")
    if events[0].get("format") != FORMAT:
        raise TaskError(f"{path}: its format is {events[0].get('format')!r}; this version reads format {FORMAT}")
    return Record(tuple(events), len(content) - length, length)


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


class Journal:
    """A journal open for appending.

    Args:
        path: The file, or the run's folder. A new journal must not exist yet.
        record: What ``read`` found, to go on with an existing one; a torn last line is cut off.

    Raises:
        TaskError: The file cannot be written.
    """

    def __init__(self, path: str | Path, record: Record | None = None) -> None:
        self.path = _file(path)
        self._file: BinaryIO
        try:
            if record is None:
                self._file = self.path.open("xb")
                _sync_folder(self.path.parent)
            else:
                self._file = self.path.open("r+b")
                if record.torn:
                    self._file.truncate(record.length)
                    os.fsync(self._file.fileno())
                self._file.seek(record.length)
        except OSError as error:
            raise TaskError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def append(self, event: str, **values: Any) -> Event:
        """Writes one event; when this returns, it is on the disk.

        Raises:
            TaskError: The disk is full, say.
        """
        entry: Event = {"event": event, "time": datetime.now(UTC).isoformat(), **values}
        line = json.dumps(_plain(entry), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise TaskError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        return json.loads(line)

    def close(self) -> None:
        with suppress(OSError):  # closing tries once more to write what append could not, which was reported then
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def trials(record: Record) -> Iterator[tuple[Event, Event | None]]:
    """Each trial's ask with its end (``complete`` or ``fail``), None for the one in flight."""
    ends = {event["trial"]: event for kind in ("complete", "fail") for event in record.all(kind)}
    for ask in record.all("ask"):
        yield ask, ends.get(ask["trial"])


def _plain(value: Any) -> Any:
    """JSON's own types; a number that JSON lacks becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(value)}
    return value


def revive(value: Any) -> Any:
    """Undoes what ``append`` did to numbers that JSON lacks."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: revive(item) for key, item in value.items()}
    return [revive(item) for item in value] if isinstance(value, list) else value


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / NAME if path.is_dir() else path


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name survive a power cut; systems that cannot open folders do without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


__all__ = ["FORMAT", "NAME", "Event", "Journal", "Record", "read", "revive", "trials"]
