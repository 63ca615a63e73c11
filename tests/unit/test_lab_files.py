"""The lab's file server, the real one, on the loopback address."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import files
from lab.errors import LabError
from lab.settings import Settings

LAB = "trial"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(tmp_path / "cache", tmp_path / "store", tmp_path / "run")
    settings.lab(LAB).mkdir(parents=True)
    (settings.lab(LAB) / "known_hosts").touch()
    yield settings
    files.stop(settings, LAB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a folder"
    made.mkdir()
    (made / "manifest.json").write_text("0123456789")
    return made


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


def fetch(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_served_once_whole_and_in_part_until_stopped(here: Settings, folder: Path, port: int) -> None:
    assert files.serve(here, LAB, "127.0.0.1", port, folder)
    assert not files.serve(here, LAB, "127.0.0.1", port, folder)
    assert fetch(port, "/manifest.json") == (200, b"0123456789")
    assert fetch(port, "/manifest.json", Range="bytes=4-") == (206, b"456789")
    assert fetch(port, "/manifest.json", "PUT")[0] == 405
    assert fetch(port, "/../cache/lab/labs/trial/known_hosts")[0] == 404
    assert fetch(port, "/none")[0] == 404
    assert files.stop(here, LAB)
    assert not files.stop(here, LAB)
    with pytest.raises(ConnectionRefusedError):
        fetch(port, "/manifest.json")


def test_a_dead_server_is_started_anew(here: Settings, folder: Path, port: int) -> None:
    files.serve(here, LAB, "127.0.0.1", port, folder)
    server = files.recorded(here, LAB)
    assert server is not None
    os.kill(server.pid, 9)
    os.waitpid(server.pid, 0)
    assert files.serve(here, LAB, "127.0.0.1", port, folder)
    assert fetch(port, "/manifest.json")[0] == 200


def test_another_folder_is_served_instead(here: Settings, folder: Path, port: int, tmp_path: Path) -> None:
    files.serve(here, LAB, "127.0.0.1", port, folder)
    assert files.serve(here, LAB, "127.0.0.1", port, tmp_path)
    assert fetch(port, "/manifest.json")[0] == 404
    assert fetch(port, "/a%20folder/manifest.json")[0] == 200


def test_a_process_that_is_not_ours_is_left_alone(here: Settings) -> None:
    stranger = files.Server(os.getpid(), -1, "/", "127.0.0.1", 1, "x")
    files.state_file(here, LAB).write_text(json.dumps(stranger.__dict__))
    assert files.born(os.getpid()) is not None
    assert not files.is_ours(stranger)
    assert not files.stop(here, LAB)


def test_a_taken_port_is_told(here: Settings, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LabError, match="address already in use") as caught:
            files.serve(here, LAB, "127.0.0.1", taken.getsockname()[1], folder)
    assert caught.value.code == "LW-LAB-054"


@pytest.mark.parametrize(
    ("code", "lab", "address", "port", "name"),
    [
        ("LW-LAB-050", LAB, "127.0.0.1", 8480, "none"),
        ("LW-LAB-052", "other", "127.0.0.1", 8480, "a folder"),
        ("LW-LAB-053", LAB, str(ipaddress.IPv4Address(0)), 8480, "a folder"),
        ("LW-LAB-053", LAB, "8.8.8.8", 8480, "a folder"),
        ("LW-LAB-053", LAB, "localhost", 8480, "a folder"),
        ("LW-LAB-053", LAB, "127.0.0.1", 0, "a folder"),
    ],
)
def test_a_wrong_wish_is_refused(
    here: Settings, folder: Path, code: str, lab: str, address: str, port: int, name: str
) -> None:
    with pytest.raises(LabError) as caught:
        files.serve(here, lab, address, port, folder.parent / name)
    assert caught.value.code == code


def test_another_python_than_the_control_nodes_is_told(
    here: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        LabError, match=r"LW-LAB-051: .* has no uvicorn; run lab.py with the control node's Python, .venv/bin/python"
    ):
        files.serve(here, LAB, "127.0.0.1", 8480, folder)


def test_a_server_that_a_checkout_left_behind_makes_room(
    here: Settings, folder: Path, port: int, tmp_path: Path
) -> None:
    gone = Settings(tmp_path / "gone", tmp_path / "store", tmp_path / "run")
    gone.lab(LAB).mkdir(parents=True)
    (gone.lab(LAB) / "known_hosts").touch()
    assert files.serve(gone, LAB, "127.0.0.1", port, folder)
    left = files.recorded(gone, LAB)
    assert left in files.running("127.0.0.1")
    assert left not in files.running("127.0.0.2")
    shutil.rmtree(gone.cache)
    assert files.serve(here, LAB, "127.0.0.1", port, folder)
    assert left is not None
    assert not files.is_ours(left)
    assert files.recorded(here, LAB) in files.running("127.0.0.1")
