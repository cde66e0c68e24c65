"""Files and folders that appear whole."""

from pathlib import Path

import pytest

from cspipe.runtime.files import whole_file, whole_folder


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    """A stranger's folder may have one: git brings links along."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "mine")
    with whole_file(tmp_path / "out") as beside:
        beside.write_text("new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "out").read_text() == "new"
    assert not (tmp_path / "out").is_symlink()


def test_nor_is_that_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / ".out.partial").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "mine").exists()
    assert not (tmp_path / "out").exists()


def test_a_linked_folder_is_replaced_and_what_it_links_to_stays(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big/old").touch()
    (tmp_path / "out").symlink_to(tmp_path / "big")
    with whole_folder(tmp_path / "out") as beside:
        (beside / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert (tmp_path / "big/old").exists()
