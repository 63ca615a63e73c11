"""labwright.keys: whose keys the API accepts, rotation, and what is shown of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labwright import keys, wishes
from labwright.safe import Safe, opened
from labwright.words import Refused

ANNA, BEN = "anna-1234567890123456789", "ben-12345678901234567890"


def accepted(folder: Path, given: dict[str, Any] | None = None, agents: tuple[str, ...] = ("a1",)) -> dict[str, Any]:
    with opened(folder) as safe:
        return keys.accepted(safe, given, agents)


def test_what_is_lacking_is_made_once(tmp_path: Path) -> None:
    one = accepted(tmp_path)
    assert list(one) == ["operator", "agent-a1"]
    assert all(
        len(lines) == 1 and keys.KEY.fullmatch(lines[0]) and lines[0].startswith("lw-") for lines in one.values()
    )
    assert len({lines[0] for lines in one.values()}) == 2
    assert accepted(tmp_path) == one
    assert (tmp_path / "keys" / "operator").read_text() == f"{one['operator'][0]}\n"


def test_people_come_from_the_inventory_and_go_with_it(tmp_path: Path) -> None:
    given = {"anna": f"{ANNA}\n", "ben": [BEN, ANNA[::-1]], "operator": BEN[::-1]}
    one = accepted(tmp_path, given)
    assert (one["anna"], one["ben"], one["operator"]) == ([ANNA], [BEN, ANNA[::-1]], [BEN[::-1]])
    assert not (tmp_path / "keys" / "anna").exists()
    assert set(accepted(tmp_path, {"ben": BEN})) == {"ben", "operator", "agent-a1"}


def test_a_host_without_agents_any_more_is_not_accepted(tmp_path: Path) -> None:
    accepted(tmp_path, agents=("a1", "a2"))
    assert set(accepted(tmp_path, agents=("a2",))) == {"operator", "agent-a2"}


def test_a_program_is_no_person(tmp_path: Path) -> None:
    one = accepted(tmp_path, {"anna": ANNA, "agent-x": BEN}, agents=("a1", "a/b"))
    assert set(keys.people(one, ["a1", "a/b"])) == {"anna", "agent-x", "operator"}
    assert keys.people(one, ["a1", "a/b"])["anna"] == [ANNA]


def test_a_hosts_name_is_one_word_and_one_file(tmp_path: Path) -> None:
    assert set(accepted(tmp_path, agents=("a/b c", "a.b"))) == {"operator", "agent-a%2Fb%20c", "agent-a.b"}
    assert (tmp_path / "keys" / "agent-a%2Fb%20c").is_file()


def test_rotation_keeps_the_old_key_until_it_is_retired(tmp_path: Path) -> None:
    old = accepted(tmp_path)["operator"][0]
    with opened(tmp_path) as safe:
        assert keys.rotate(safe, "operator", None, ["a1"])
        assert not keys.rotate(safe, "operator", None, ["a1"])  # gone on with, not begun anew
    new, second = accepted(tmp_path)["operator"]
    assert second == old
    assert new != old
    with opened(tmp_path) as safe:
        assert keys.retire(safe, "operator", None, ["a1"])
        assert not keys.retire(safe, "operator", None, ["a1"])
    assert accepted(tmp_path)["operator"] == [new]


@pytest.mark.parametrize("step", [keys.rotate, keys.retire])
def test_only_a_name_of_ours_is_rotated(tmp_path: Path, step: Any) -> None:
    for name, code in (("anna", "LW-KEYS-005"), ("nobody", "LW-KEYS-004"), ("../x", "LW-KEYS-004")):
        with opened(tmp_path) as safe, pytest.raises(Refused) as caught:
            step(safe, name, {"anna": ANNA}, ["a1"])
        assert caught.value.code == code
        assert ANNA not in str(caught.value)


@pytest.mark.parametrize("text", ["", "short\n", f"{ANNA} {BEN} {ANNA[::-1]}", f"{ANNA}\n\x00\n", "é" * 30])
def test_a_damaged_key_is_named_by_its_file_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "operator").write_text(text)
    with pytest.raises(Refused) as caught:
        accepted(tmp_path)
    assert caught.value.code == "LW-KEYS-003"
    assert ANNA not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"anna": ANNA, "ben": ANNA.upper()}, {"anna": [BEN, ANNA], "ben": f"{ANNA}\n"}, {"a": [BEN], "b": [BEN]}]
)
def test_two_names_do_not_share_a_key(given: dict[str, Any]) -> None:
    (one,) = keys.problems("api10", given)
    assert one.code == "LW-KEYS-001"
    assert ANNA not in str(one)
    assert BEN not in str(one)


@pytest.mark.parametrize("given", [None, ANNA, [ANNA], {"anna": ANNA, "ben": BEN}, {"anna": [ANNA, ANNA]}])
def test_no_shared_key_no_problem(given: Any) -> None:
    assert keys.problems("api10", given) == []


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({"anna": ANNA, "ben": [BEN, ANNA]}, True),
        ({"anna": ANNA[:19]}, False),
        ({"Anna": ANNA}, False),
        ({"anna": f"{ANNA} x"}, False),
        ({"anna": f'{ANNA}"'}, False),
        ({"anna": []}, False),
        ({"anna": [ANNA, BEN, ANNA]}, False),
        ([ANNA], False),
    ],
)
def test_the_form_of_a_key_is_checked_without_showing_it(given: Any, good: bool) -> None:
    found = wishes.problems("api10", {"lab_api_keys": given}, {})
    assert {one.code for one in found} == (set() if good else {"LW-VAR-004"})
    assert ANNA[:19] not in "".join(map(str, found))


def test_secret_wishes_are_in_no_hosts_wishes() -> None:
    assert "lab_api_keys" not in wishes.host_of("a", [], {"lab_api_keys": {"anna": ANNA}}).wishes


def test_the_table_has_names_places_and_times_and_no_key(tmp_path: Path) -> None:
    one = accepted(tmp_path, {"anna": ANNA})
    with opened(tmp_path) as safe:
        keys.rotate(safe, "operator", None, ["a1"])
        rows = keys.rows(safe, {"anna": ANNA}, ["a1", "a2"])
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("anna", "lab_api_keys", ""),
        ("operator", "verify, loadtest", "two keys are accepted"),
        ("agent-a1", "agents on a1", ""),
        ("agent-a2", "agents on a2", "not made yet"),
    ]
    assert rows[1][2].endswith("UTC")
    assert rows[3][2] == "-"
    text = keys.as_table(rows)
    assert not any(key in text for lines in one.values() for key in lines)
    assert Safe(tmp_path).get("keys/operator") is not None
