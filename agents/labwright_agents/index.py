"""A folder of documents as passages in an index on disk: SQLite's own full-text search (FTS5), ranked by BM25.

A passage is a piece of a file with the lines, or of a PDF with the page, that it stands on. Chinese has no spaces, so
its text is indexed by pairs of neighbouring characters. The index follows the folder: what changed is read anew, what
is gone goes; a damaged index is made anew, unless a person chose its file: that is never removed.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labwright_agents.errors import AgentError
from labwright_agents.texts import decoded, whole

FORMAT = 2
OURS = 0x4C574958  # SQLite's application_id of an index: LWIX
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
WAIT_S, COMMIT_S = 1, 2  # for another one that writes, before signals are looked at; and until what was read is kept
TEXTS = (".txt", ".text", ".md", ".markdown", ".rst")
LINES, CHARACTERS = 20, 1200  # of a passage at most
MOST_BYTES = 64 * 2**20  # of a file; a larger one is left out and said
WORD = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff]+")
SCHEMA = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, skipped TEXT);
CREATE TABLE passages (id INTEGER PRIMARY KEY, path TEXT, first INTEGER, last INTEGER, text TEXT);
CREATE VIRTUAL TABLE words USING fts5 (body, tokenize='unicode61 remove_diacritics 2');
"""


class Foreign(Exception):
    """A file that is something else than an index of this version."""


@dataclass(frozen=True)
class Passage:
    """A piece of a file: lines first to last, or page `first` of a PDF (`last` is 0 then)."""

    path: str
    first: int
    last: int
    text: str

    @property
    def where(self) -> str:
        """File and line, or file and page, as a citation names it."""
        return f"{self.path}:{self.first}-{self.last}" if self.last else f"{self.path} page {self.first}"


def terms(text: str) -> list[str]:
    """The words of a text as they are indexed: lower case; Chinese as pairs of characters, one alone as it is."""
    found: list[str] = []
    for word in WORD.findall(text.lower()):
        if "\u3400" <= word[0] <= "\u9fff":
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            found.append(word)
    return found


def passages(path: str, text: str) -> Iterator[Passage]:
    """The passages of a text: paragraphs put together up to the limits; a heading begins a new one."""
    lines = text.splitlines()
    first = size = 0
    for at, line in enumerate(lines):
        full = at - first >= LINES or size + len(line) > CHARACTERS
        begins = line.startswith("#") or (at > 0 and not lines[at - 1].strip() and at - first >= LINES // 2)
        if at > first and (full or begins):
            yield from _passage(path, lines, first, at)
            first, size = at, 0
        size += len(line) + 1
    yield from _passage(path, lines, first, len(lines))


def _passage(path: str, lines: list[str], first: int, end: int) -> Iterator[Passage]:
    while first < end and not lines[first].strip():
        first += 1
    while end > first and not lines[end - 1].strip():
        end -= 1
    if first < end:
        yield Passage(path, first + 1, end, "\n".join(lines[first:end])[: CHARACTERS * 2])


def read(path: Path, name: str) -> list[Passage]:
    """The passages of a file. Raises ValueError for one that cannot be read as what its name says."""
    if path.suffix.lower() != ".pdf":
        return list(passages(name, decoded(path.read_bytes())))
    from pypdf import PdfReader

    try:
        pages = [whole(page.extract_text()) for page in PdfReader(path).pages]
    except Exception as error:  # whatever comes of a stranger's file in a parser: one of them must not stop the others
        raise ValueError(f"no readable PDF, or an encrypted one ({error})") from error
    found = []
    for number, text in enumerate(pages, start=1):
        found += [Passage(name, number, 0, one.text) for one in passages(name, text)]
    return found


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary code of an error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Index:
    """The index of one folder, in one file. `skipped` says which documents could not be read, and why."""

    def __init__(self, file: Path, folder: Path, *, chosen: bool = False) -> None:
        """Open the index, or make it, and bring it up to date with the folder. A file that a person chose is refused
        when it is no index; one in our own place is then made anew."""
        self.skipped: list[str] = []
        self._base: Any = None
        documents = self._documents(folder)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open(file)
                self._update(documents)
            except (Foreign, sqlite3.DatabaseError) as error:
                if chosen or not (isinstance(error, Foreign) or code_of(error) in DAMAGED):
                    raise
                self.close()
                file.unlink()
                self._open(file)
                self._update(documents)
            if not self.count:
                raise AgentError("LW-AGENT-022", path=folder, error="; ".join(self.skipped) or "nothing to read in it")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | Foreign | sqlite3.Error):
                raise AgentError("LW-AGENT-023", path=file, error=getattr(error, "strerror", None) or error) from error
            raise

    @property
    def count(self) -> int:
        """How many passages there are."""
        return int(self._ask("SELECT count(*) FROM passages")[0][0])

    def search(self, question: str, most: int) -> list[Passage]:
        """The passages that fit best; none for words that stand nowhere."""
        wanted = list(dict.fromkeys(terms(question)))
        if not wanted:
            return []
        query = " OR ".join(f'"{word}"' for word in wanted)
        rows = self._ask(
            "SELECT path, first, last, text FROM words JOIN passages ON passages.id = words.rowid "
            "WHERE words MATCH ? ORDER BY bm25(words), passages.id LIMIT ?",
            (query, most),
        )
        return [Passage(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        if self._base:
            self._base.close()

    def _ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Do one statement, however long another process writes; the conversation's end ends that too."""
        while True:
            try:
                return list(self._base.execute(statement, values))
            except sqlite3.OperationalError as error:
                if code_of(error) not in BUSY:
                    raise

    def _open(self, file: Path) -> None:
        """Open the file, and lay it out when it is new; raise Foreign when it is something else."""
        self._base = sqlite3.connect(file, timeout=WAIT_S, isolation_level=None)
        with self._writing():
            if not self._ask("SELECT count(*) FROM sqlite_master")[0][0]:
                for statement in filter(None, map(str.strip, SCHEMA.split(";"))):
                    self._ask(statement)
                self._ask(f"PRAGMA application_id = {OURS}")
                self._ask(f"PRAGMA user_version = {FORMAT}")
            found = self._ask("PRAGMA application_id")[0][0], self._ask("PRAGMA user_version")[0][0]
            if found != (OURS, FORMAT):
                raise Foreign("it is no index of this version, and is left as it is")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        self._ask("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise
        self._ask("COMMIT")

    def _documents(self, folder: Path) -> dict[str, Path]:
        """The documents by their names. What leads out of the folder is none: we may read what others may not."""
        found = {}
        try:
            if not folder.is_dir():
                raise AgentError("LW-AGENT-022", path=folder, error="it is no folder, or may not be read")
            root = folder.resolve()
            for one in sorted(folder.rglob("*")):
                if one.suffix.lower() in (*TEXTS, ".pdf") and one.is_file():
                    name = whole(one.relative_to(folder).as_posix())
                    if one.resolve().is_relative_to(root):
                        found[name] = one
                    else:
                        self.skipped.append(f"{name}: a link out of the folder")
        except OSError as error:
            raise AgentError("LW-AGENT-022", path=folder, error=error.strerror) from error
        return found

    def _update(self, documents: dict[str, Path]) -> None:
        """Read what is new or changed, and forget what is gone. What was read is kept every few seconds, so that a
        large folder may take several conversations, and several processes share the work."""
        known = [row[0] for row in self._ask("SELECT path FROM files")]
        waiting: deque[tuple[str, Path | None]] = deque((name, None) for name in known if name not in documents)
        waiting += documents.items()
        while waiting:
            with self._writing():
                until = time.monotonic() + COMMIT_S
                while waiting:
                    name, path = waiting.popleft()
                    if path:
                        self._learn(name, path)
                    else:
                        self._forget(name)
                    if time.monotonic() >= until:
                        break
        rows = self._ask("SELECT path, skipped FROM files WHERE skipped != '' ORDER BY path")
        self.skipped += [f"{name}: {why}" for name, why in rows]

    def _learn(self, name: str, path: Path) -> None:
        """Take a file in, if it is not there as it is now."""
        found: list[Passage] = []
        try:
            state = path.stat()
            now = state.st_size, state.st_mtime_ns
            if self._ask("SELECT size, mtime FROM files WHERE path = ?", (name,)) == [now]:
                return
            if state.st_size > MOST_BYTES:
                raise ValueError(f"larger than {MOST_BYTES // 2**20} MiB")
            found = read(path, name)
            why = "" if found else "no text in it"
        except ValueError as error:
            why = str(error)
        except OSError as error:  # it may be readable, or there, the next time
            self.skipped.append(f"{name}: {error.strerror}")
            self._forget(name)
            return
        self._forget(name)
        self._ask("INSERT INTO files VALUES (?, ?, ?, ?)", (name, *now, whole(why)))
        for one in found:
            self._ask(
                "INSERT INTO passages (path, first, last, text) VALUES (?, ?, ?, ?)",
                (one.path, one.first, one.last, one.text),
            )
            self._ask("INSERT INTO words (rowid, body) VALUES (last_insert_rowid(), ?)", (" ".join(terms(one.text)),))

    def _forget(self, name: str) -> None:
        self._ask("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE path = ?)", (name,))
        self._ask("DELETE FROM passages WHERE path = ?", (name,))
        self._ask("DELETE FROM files WHERE path = ?", (name,))
