"""The way back: everything of ours goes, and nothing else."""

from __future__ import annotations

from e2e_lab import Lab


def test_remove_takes_everything_away_and_only_that(lab: Lab, fresh: dict[str, set[str]]) -> None:
    assert lab.play("playbooks/remove.yml", docker_remove_data=True).status == 0
    assert lab.changes(fresh) == []
    again = lab.play("playbooks/remove.yml")
    assert again.status == 0
    assert again.changed() == 0
