"""hostkit.tree: a folder with exactly these texts and these permissions."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostkit import tree
from hostkit.result import Problem
from unit.hostkit.look import look

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


def wanted(folder: Path, **more: Any) -> dict[str, Any]:
    files = {"config.json": "{}\n", "agents/one.py": "print('eins')\n", "agents/zwei/über.txt": "你好\r\n"}
    return {"path": str(folder), "files": files, "owner": ME, "group": MY_GROUP, **more}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_writes_the_files(tmp_path: Path) -> None:
    result = tree.run(wanted(tmp_path / "etc"), False)
    assert result.changed
    assert (tmp_path / "etc/agents/zwei/über.txt").read_bytes() == "你好\r\n".encode()
    assert "--- config.json\n{}\n" in result.after
    assert result.before == ""
    assert not list(tmp_path.rglob("*.part"))
    assert not tree.run(wanted(tmp_path / "etc"), False).changed


def test_permissions_are_set_and_mended(tmp_path: Path) -> None:
    request = wanted(tmp_path / "etc", mode="0640", directory_mode="0750")
    tree.run(request, False)
    assert [mode(tmp_path / name) for name in ("etc", "etc/agents", "etc/agents/zwei")] == [0o750] * 3
    assert mode(tmp_path / "etc/agents/one.py") == 0o640
    (tmp_path / "etc/agents/one.py").chmod(0o666)
    (tmp_path / "etc/agents").chmod(0o777)
    result = tree.run(request, False)
    assert result.changed
    assert result.message.endswith("0 written, 0 removed, 2 permissions set")
    assert (mode(tmp_path / "etc/agents/one.py"), mode(tmp_path / "etc/agents")) == (0o640, 0o750)
    assert not tree.run(request, False).changed


def test_defaults_are_readable_by_all(tmp_path: Path) -> None:
    tree.run(wanted(tmp_path / "etc"), False)
    assert (mode(tmp_path / "etc"), mode(tmp_path / "etc/config.json")) == (0o755, 0o644)


@pytest.mark.parametrize(("owner", "group"), [("a", "b"), ("a", ""), ("", "b"), ("", "")])
def test_an_empty_owner_or_group_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, group: str
) -> None:
    found: dict[str, str] = {}

    def chown(_path: Path, user: str | None = None, group: str | None = None) -> None:
        found.update({key: value for key, value in (("owner", user), ("group", group)) if value})

    monkeypatch.setattr("hostkit.tree.shutil.chown", chown)
    tree.permit(tmp_path, {"owner": owner, "group": group})
    assert found == {key: value for key, value in (("owner", owner), ("group", group)) if value}


def test_a_secret_is_never_readable_by_others_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(tree, "permit", lambda path, _request: seen.append(mode(path)))
    tree.write(tmp_path / "key", "secret", {"mode": "0600"})
    assert seen == [0o600]


def test_changed_and_stale_files_are_in_the_diff(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    tree.run(wanted(folder), False)
    (folder / "config.json").write_text("[]\n")
    (folder / "old.txt").write_text("old\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "one.pyc").write_bytes(b"\0")
    result = tree.run(wanted(folder), False)
    assert result.before == "--- config.json\n[]\n--- old.txt\nold\n"
    assert result.after == "--- config.json\n{}\n"
    assert not (folder / "old.txt").exists()
    assert (folder / "__pycache__" / "one.pyc").exists()


def test_other_files_stay_where_the_folder_is_shared(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    tree.run(wanted(tmp_path, exact=False), False)
    assert (tmp_path / "other").read_text() == "theirs"


def test_check_mode_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    assert tree.run(wanted(folder), True).changed
    assert not folder.exists()
    tree.run(wanted(folder), False)
    (folder / "old.txt").write_text("old\n")
    (folder / "config.json").chmod(0o600)
    there = look(tmp_path)
    told = tree.run(wanted(folder), True)
    assert look(tmp_path) == there
    assert told == tree.run(wanted(folder), False)


def test_an_empty_folder_can_be_wanted(tmp_path: Path) -> None:
    request = {"path": str(tmp_path / "empty"), "files": {}}
    assert tree.run(request, False).changed
    assert (tmp_path / "empty").is_dir()
    assert not tree.run(request, False).changed


def test_removal(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    tree.run(wanted(folder), False)
    gone = {"path": str(folder), "state": "absent"}
    assert tree.run(gone, True).changed
    assert folder.exists()
    assert tree.run(gone, False).changed
    assert not folder.exists()
    assert not tree.run(gone, False).changed


def test_of_a_folder_that_others_use_too_only_the_named_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    tree.run({"path": str(folder), "exact": False, "files": {"labwright-agent": "#!"}}, False)
    (folder / "site-backup.sh").write_text("theirs")
    gone = {"path": str(folder), "state": "absent", "files": ["labwright-agent", "older"]}
    there = look(tmp_path)
    told = tree.run(gone, True)
    assert look(tmp_path) == there
    assert told == tree.run(gone, False)
    assert [path.name for path in folder.iterdir()] == ["site-backup.sh"]
    assert not tree.run(gone, False).changed
    (folder / "site-backup.sh").rename(folder / "older")
    assert tree.run(gone, False).changed
    assert not folder.exists()


texts = st.dictionaries(st.sampled_from(["a", "b", "d/a", "d/e/f"]), st.text(st.characters(exclude_categories=["Cs"])))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(first=texts, second=texts)
def test_any_tree_becomes_any_other_and_then_stays(
    tmp_path: Path, first: dict[str, str], second: dict[str, str]
) -> None:
    for files in (first, second):
        request = {"path": str(tmp_path / "tree"), "files": files}
        tree.run(request, False)
        assert tree.present(tmp_path / "tree") == files
        assert not tree.run(request, False).changed


HUSH = "lw-01234567890123456789"


def test_secrets_are_named_and_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    request = {"path": str(folder), "files": {"a": f"{HUSH}\n", "b": "x"}, "secret": True, "mode": "0600"}
    told = tree.run(request, True)
    done = tree.run(request, False)
    assert told == done
    assert (done.before, done.after) == ("", "--- a\n(new contents, not shown)\n--- b\n(new contents, not shown)\n")
    again = tree.run({**request, "files": {"a": f"{HUSH}2\n"}}, False)
    assert (again.before, again.after) == (
        "--- a\n(contents, not shown)\n--- b\n(contents, not shown)\n",
        "--- a\n(new contents, not shown)\n",
    )
    assert (folder / "a").read_text() == f"{HUSH}2\n"
    assert HUSH not in repr([told, done, again])


def test_only_the_secret_ones_are_hidden(tmp_path: Path) -> None:
    request = {"path": str(tmp_path / "etc"), "files": {"a": HUSH, "b": "plain\n"}, "secret": ["a"]}
    assert tree.run(request, False).after == "--- a\n(new contents, not shown)\n--- b\nplain\n"
    (tmp_path / "etc" / "old").write_text("old\n")
    assert tree.run(request, False).before == "--- old\nold\n"


def judged(folder: Path, words: str, code: int, **more: Any) -> dict[str, Any]:
    """A request whose validator notes what it finds in the folder that it is given, says so, and judges."""
    program = f"ls -ln {{}} > {folder.parent}/seen; cat {{}}/a; echo {words} >&2; exit {code}"
    files = {"a": f"{HUSH}\n"}
    argv = ["/bin/sh", "-c", program]
    return {"path": str(folder), "files": files, "mode": "0600", "validate": {"argv": argv}, **more}


def test_what_a_validator_takes_is_put_in_place(tmp_path: Path) -> None:
    assert tree.run(judged(tmp_path / "etc", "fine", 0), False).changed
    assert "-rw-------" in (tmp_path / "seen").read_text()
    (tmp_path / "seen").unlink()
    assert not tree.run(judged(tmp_path / "etc", "fine", 0), False).changed
    assert not (tmp_path / "seen").exists()  # nothing new, nobody is asked
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


def test_what_a_validator_refuses_is_not_put_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    tree.run({"path": str(folder), "files": {"a": "good\n"}}, False)
    with pytest.raises(Problem) as caught:
        tree.run(judged(folder, f"no good: a_long_directive {{}}/a:1 {HUSH}", 1, secret=["a"]), False)
    assert caught.value.code == "LW-TREE-001"
    assert f"no good: a_long_directive {folder}/a:1 ***" in caught.value.message
    assert HUSH not in caught.value.message
    assert (folder / "a").read_text() == "good\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc", "seen"]


def test_check_mode_asks_no_validator(tmp_path: Path) -> None:
    assert tree.run(judged(tmp_path / "etc", "no", 1), True).changed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="another user can be had by root alone")
def test_a_validator_runs_as_the_user_who_will_read_the_files(tmp_path: Path) -> None:
    user = pwd.getpwnam("nobody")
    argv = ["/bin/sh", "-c", "cd / && id -u && id -g && id -G && exit 1"]
    request = {"path": str(tmp_path / "etc"), "files": {"a": ""}, "validate": {"argv": argv, "user": "nobody"}}
    with pytest.raises(Problem) as caught:
        tree.run({**request, "group": grp.getgrgid(user.pw_gid).gr_name}, False)
    assert f": {user.pw_uid}\n{user.pw_gid}\n{user.pw_gid}." in caught.value.message
