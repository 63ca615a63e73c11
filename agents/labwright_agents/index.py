"""A folder of documents as passages in an index on disk: SQLite's own full-text search (FTS5), ranked by BM25.

A passage is a piece of a file with the lines, or of a PDF with the page, that it stands on. Chinese has no spaces, so
its text is indexed by pairs of neighbouring characters. The index follows the folder: what changed is read anew, what
is gone goes; a damaged index is made anew.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labwright_agents.errors import AgentError

FORMAT = 1
TEXTS = (".txt", ".text", ".md", ".markdown", ".rst")
LINES, CHARACTERS = 20, 1200  # of a passage at most
MOST_BYTES = 64 * 2**20  # of a file; a larger one is left out and said
WORD = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff]+")
SCHEMA = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY, path TEXT, first INTEGER, last INTEGER, text TEXT);
CREATE VIRTUAL TABLE words USING fts5 (body, tokenize='unicode61 remove_diacritics 2');
"""


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


def read(folder: Path, path: Path) -> list[Passage]:
    """The passages of a file. Raises ValueError for one that cannot be read as what its name says."""
    name = path.relative_to(folder).as_posix()
    if path.suffix.lower() != ".pdf":
        return list(passages(name, path.read_text(encoding="utf-8", errors="replace")))
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        pages = [page.extract_text() for page in PdfReader(path).pages]
    except (PyPdfError, KeyError, TypeError, AttributeError, RecursionError) as error:  # pypdf on damaged files
        raise ValueError(f"{name}: no readable PDF ({error})") from error
    found = []
    for number, text in enumerate(pages, start=1):
        found += [Passage(name, number, 0, one.text) for one in passages(name, text)]
    return found


class Index:
    """The index of one folder, in one file. `skipped` says which documents could not be read, and why."""

    def __init__(self, file: Path, folder: Path) -> None:
        """Open the index, or make it, and bring it up to date with the folder."""
        self.skipped: list[str] = []
        documents = self._documents(folder)
        for anew in (False, True):
            try:
                if anew:
                    file.unlink(missing_ok=True)
                file.parent.mkdir(parents=True, exist_ok=True)
                self._base = sqlite3.connect(file, timeout=60)
                self._update(folder, documents)
                break
            except sqlite3.DatabaseError as error:  # damaged, of another format, or not ours to write
                self._base.close()
                if anew or (isinstance(error, sqlite3.OperationalError) and "readonly" in str(error)):
                    raise AgentError("LW-AGENT-023", path=file, error=error) from error
            except OSError as error:
                raise AgentError("LW-AGENT-023", path=file, error=error.strerror) from error
        if not self.count:
            raise AgentError("LW-AGENT-022", path=folder, error="; ".join(self.skipped) or "nothing to read in it")

    @property
    def count(self) -> int:
        """How many passages there are."""
        return int(self._base.execute("SELECT count(*) FROM passages").fetchone()[0])

    def search(self, question: str, most: int) -> list[Passage]:
        """The passages that fit best; none for words that stand nowhere."""
        wanted = list(dict.fromkeys(terms(question)))
        if not wanted:
            return []
        query = " OR ".join(f'"{word}"' for word in wanted)
        rows = self._base.execute(
            "SELECT path, first, last, text FROM words JOIN passages ON passages.id = words.rowid "
            "WHERE words MATCH ? ORDER BY bm25(words), passages.id LIMIT ?",
            (query, most),
        )
        return [Passage(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _documents(self, folder: Path) -> dict[str, Path]:
        try:
            if not folder.is_dir():
                raise AgentError("LW-AGENT-022", path=folder, error="it is no folder, or may not be read")
            found = sorted(one for one in folder.rglob("*") if one.suffix.lower() in (*TEXTS, ".pdf") and one.is_file())
        except OSError as error:
            raise AgentError("LW-AGENT-022", path=folder, error=error.strerror) from error
        return {one.relative_to(folder).as_posix(): one for one in found}

    def _update(self, folder: Path, documents: dict[str, Path]) -> None:
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            if self._base.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                if self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise sqlite3.DatabaseError("another format")
                for statement in filter(None, map(str.strip, SCHEMA.split(";"))):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {FORMAT}")
            known = {row[0]: row[1:] for row in self._base.execute("SELECT path, size, mtime FROM files")}
            for name in known.keys() - documents.keys():
                self._forget(name)
            for name, path in documents.items():
                state = path.stat()
                now = state.st_size, state.st_mtime_ns
                if known.get(name) != now:
                    self._forget(name)
                    if self._learn(folder, path, state.st_size):
                        self._base.execute("INSERT INTO files VALUES (?, ?, ?)", (name, *now))

    def _learn(self, folder: Path, path: Path, size: int) -> bool:
        try:
            if size > MOST_BYTES:
                raise ValueError(f"{path.relative_to(folder)}: larger than {MOST_BYTES // 2**20} MiB")
            found = read(folder, path)
        except (ValueError, OSError) as error:
            self.skipped.append(str(error))
            return False
        if not found:
            self.skipped.append(f"{path.relative_to(folder)}: no text in it")
        for one in found:
            row = self._base.execute(
                "INSERT INTO passages (path, first, last, text) VALUES (?, ?, ?, ?)",
                (one.path, one.first, one.last, one.text),
            )
            self._base.execute(
                "INSERT INTO words (rowid, body) VALUES (?, ?)", (row.lastrowid, " ".join(terms(one.text)))
            )
        return True

    def _forget(self, name: str) -> None:
        self._base.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE path = ?)", (name,))
        self._base.execute("DELETE FROM passages WHERE path = ?", (name,))
        self._base.execute("DELETE FROM files WHERE path = ?", (name,))
