"""Training states: whole or passed over, and never those of another run."""

from pathlib import Path

import pytest
import torch

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def states(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path, "run")
    for seen in (10, 20, 30):
        checkpoints.save(seen, {"weights": torch.full((1000,), float(seen)), "curve": [{"step": seen}]})
    return checkpoints


def test_newest_is_found_and_two_are_kept(states: Checkpoints) -> None:
    seen, state = states.load(CPU)
    assert seen == 30
    assert torch.equal(state["weights"], torch.full((1000,), 30.0))
    assert state["curve"] == [{"step": 30}]
    assert len(list(states.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_damaged_state_is_named_and_the_one_before_is_used(
    damage: str, states: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = states.newest()
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b"", "text": b"hello"}[damage])
    seen, _ = states.load(CPU)
    assert seen == 20
    assert newest.name in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_state_that_the_disk_does_not_give_is_named_and_kept(states: Checkpoints) -> None:
    """An error of the disk, which may be away for a while, says nothing of the state."""
    newest = states.newest()
    content = newest.read_bytes()
    newest.unlink()
    newest.symlink_to("/proc/self/mem")  # reading it is an input/output error
    with pytest.raises(UserError, match=rf"{newest}: .*Input/output error"):
        states.load(CPU)
    assert newest.is_symlink()
    newest.unlink()
    newest.write_bytes(content)
    assert states.load(CPU)[0] == 30


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_state_that_the_device_does_not_take_is_named_and_kept(states: Checkpoints) -> None:
    with pytest.raises(UserError, match=f"{states.newest()}"):
        states.load(torch.device("cuda"))
    assert states.load(CPU)[0] == 30


def test_state_of_another_run_is_named_and_not_used(
    states: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Checkpoints(tmp_path, "other")
    other.folder.mkdir()
    for path in states.folder.iterdir():
        path.rename(other.folder / path.name)
    assert other.load(CPU) is None
    assert "another run" in capsys.readouterr().err


def test_code_hidden_in_a_state_is_not_run(tmp_path: Path) -> None:
    """A pickle can call anything when it is read; such a file is refused, not executed."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").touch, ())  # type: ignore[return-value]

    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(1, {"bomb": Bomb()})
    assert checkpoints.load(CPU) is None
    assert not (tmp_path / "ran").exists()


def test_partial_file_of_a_killed_writer_is_ignored(states: Checkpoints) -> None:
    (states.folder / ".partial").write_bytes(b"half")
    assert states.load(CPU)[0] == 30


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_full_disk_is_the_error_of_the_system_and_leaves_nothing(states: Checkpoints) -> None:
    (states.folder / ".partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        states.save(40, {"weights": torch.zeros(100_000)})
    assert not (states.folder / ".partial").is_symlink()
    assert states.load(CPU)[0] == 30
