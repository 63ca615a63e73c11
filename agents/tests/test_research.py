"""Research from outside: passages of text, Markdown and PDF, found in two languages, cited by file and line or page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripted import PYTHON, Lab, told

PDF = """
import sys
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject
writer = PdfWriter()
for text in ("A page about nothing.", "The quantum annealer stands in room 12."):
    page = writer.add_blank_page(300, 300)
    font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                             NameObject("/BaseFont"): NameObject("/Helvetica")})
    fonts = DictionaryObject({NameObject("/F1"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
writer.write(sys.argv[1])
"""


@pytest.fixture
def documents(lab: Lab) -> Path:
    """A folder of documents of each kind."""
    folder = lab.folder / "papers"
    (folder / "deep er").mkdir(parents=True)
    (folder / "a.md").write_text(
        "# Lab\n\nThe lab.\n\n# Ports\n\nThe controller listens on port 21001.\n", encoding="utf-8"
    )
    (folder / "deep er/中文.txt").write_text("第一行。\n\n网关监听 9527 端口，使用证书。\n", encoding="utf-8")
    subprocess.run([PYTHON, "-c", PDF, str(folder / "p.pdf")], check=True)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    return folder


@pytest.mark.parametrize(
    ("task", "where"),
    [
        ("Where does the controller listen?", "a.md:5-7"),
        ("网关用什么端口？", "deep er/中文.txt:1-3"),
        ("In which room is the annealer?", "p.pdf page 2"),
    ],
)
def test_an_answer_cites_file_and_line(lab: Lab, documents: Path, task: str, where: str) -> None:
    endpoint = lab.endpoint("There [1].\n\nTERMINATE")
    status, said = lab.ask("research", "--documents", str(documents), task=task)
    assert (status, said["verdict"]) == (0, "answered")
    assert [one["where"] for one in said["sources"] if one["cited"]] == [where]
    assert f"[1] {where}\n" in told(endpoint.requests[0])
    assert said["skipped"] == []


def test_the_model_may_ask_for_other_passages(lab: Lab, documents: Path) -> None:
    endpoint = lab.endpoint("SEARCH: annealer room", "SEARCH: xylophone", "Room 12 [2].\n\nTERMINATE")
    status, said = lab.ask("research", "--documents", str(documents), task="Which port has controller?")
    assert (status, said["verdict"]) == (0, "answered")
    assert "[2] p.pdf page 2" in told(endpoint.requests[1])
    assert "No passage holds these words." in told(endpoint.requests[2])
    assert [one["cited"] for one in said["sources"]][:2] == [False, True]


@pytest.mark.parametrize(
    ("reply", "verdict"), [("Somewhere.\n\nTERMINATE", "no citation"), ("See [99].\n\nTERMINATE", "no citation")]
)
def test_an_answer_without_a_source_is_not_called_answered(lab: Lab, documents: Path, reply: str, verdict: str) -> None:
    lab.endpoint(reply)
    status, said = lab.ask("research", "--documents", str(documents), task="Which port has controller?")
    assert (status, said["verdict"]) == (1, verdict)


def test_words_that_stand_nowhere_cost_no_question(lab: Lab, documents: Path) -> None:
    endpoint = lab.endpoint("no")
    status, said = lab.ask("research", "--documents", str(documents), task="xylophone zebra")
    assert (status, said["verdict"], endpoint.requests) == (1, "nothing found", [])


def test_what_cannot_be_read_is_said(lab: Lab, documents: Path) -> None:
    (documents / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    lab.endpoint("There [1].\n\nTERMINATE")
    said = lab.ask("research", "--documents", str(documents), task="Where does the controller listen?")[1]
    assert [one.split(":")[0] for one in said["skipped"]] == ["broken.pdf"]


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_a_folder_without_documents_is_a_sentence(lab: Lab, folder: str) -> None:
    (lab.folder / "empty").mkdir()
    lab.endpoint("no")
    assert lab.ask("research", "--documents", folder)[1]["id"] == "LW-AGENT-022"
    assert lab.ask("research")[1]["id"] == "LW-AGENT-022"


def test_the_index_must_be_of_use(lab: Lab, documents: Path) -> None:
    lab.endpoint("There [1].\n\nTERMINATE")
    words = ("--documents", str(documents), "--index", str(lab.folder / "OAI_CONFIG_LIST/index"))
    assert lab.ask("research", *words, task="controller")[1]["id"] == "LW-AGENT-023"


def a_pdf(*, cmap: bytes = b"", encrypt: bool = False) -> str:
    """A program that writes a page of a PDF whose characters are named by `cmap`, or that is encrypted."""
    return f"""
import sys
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject
writer = PdfWriter()
page = writer.add_blank_page(200, 200)
font = DictionaryObject({{NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
                          NameObject("/BaseFont"): NameObject("/Helvetica")}})
if {cmap!r}:
    stream = DecodedStreamObject()
    stream.set_data({cmap!r})
    font[NameObject("/ToUnicode")] = writer._add_object(stream)
fonts = DictionaryObject({{NameObject("/F1"): font}})
page[NameObject("/Resources")] = DictionaryObject({{NameObject("/Font"): fonts}})
stream = DecodedStreamObject()
stream.set_data(b"BT /F1 12 Tf 10 100 Td (A BC) Tj ET")
page[NameObject("/Contents")] = writer._add_object(stream)
if {encrypt}:
    writer.encrypt("", "owner", algorithm="RC4-128")
writer.write(sys.argv[1])
"""


HALF = b"""/CIDInit /ProcSet findresource begin
begincmap
1 begincodespacerange
<00> <FF>
endcodespacerange
1 beginbfchar
<41> <D835>
endbfchar
endcmap"""


def test_one_document_does_not_stop_the_others(lab: Lab, documents: Path) -> None:
    subprocess.run([PYTHON, "-c", a_pdf(cmap=HALF), str(documents / "math.pdf")], check=True)
    subprocess.run([PYTHON, "-c", a_pdf(encrypt=True), str(documents / "locked.pdf")], check=True)
    # For AES pypdf wants a package that is not there, and cannot write it either: here only the dictionary says AES.
    aes = b"/V 4 /CF << /StdCF << /CFM /AESV2 /AuthEvent /DocOpen /Length 16 >> >> /StmF /StdCF /StrF /StdCF"
    locked = (documents / "locked.pdf").read_bytes()
    assert locked.count(b"/V 2") == locked.count(b"/R 3") == 1
    (documents / "locked.pdf").write_bytes(locked.replace(b"/V 2", aes).replace(b"/R 3", b"/R 4"))
    lab.endpoint("There [1].\n\nTERMINATE")
    for _twice in range(2):
        said = lab.ask("research", "--documents", str(documents), task="Where does the controller listen?")[1]
        assert said["verdict"] == "answered"
        assert [one.split(":")[0] for one in said["skipped"]] == ["locked.pdf"]


def test_a_file_that_is_no_index_is_left_as_it_is(lab: Lab, documents: Path) -> None:
    (lab.folder / "results.jsonl").write_text('{"id": "precious"}\n' * 200)
    lab.endpoint("There [1].\n\nTERMINATE")
    words = ("--documents", str(documents), "--index", str(lab.folder / "results.jsonl"))
    assert lab.ask("research", *words, task="controller")[1]["id"] == "LW-AGENT-023"
    assert (lab.folder / "results.jsonl").read_text().count("precious") == 200
