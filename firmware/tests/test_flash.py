"""The host folder behind the node's flash: the operations the rooms above rely on, on a real file system."""

import shutil
from pathlib import Path

import pytest
from lamppost_node.flash import Flash


@pytest.fixture
def flash(tmp_path: Path) -> Flash:
    made = Flash(str(tmp_path / "node" / "lamppost"))
    made.make_folder("")
    made.make_folder("spool")
    made.make_folder("spool")
    return made


def test_files_are_written_appended_replaced_and_removed(flash: Flash) -> None:
    """What was written is read back; names come sorted, half-written files left out; missing files are no error."""
    assert flash.read("spool/b") is None
    assert flash.size_bytes("spool/b") == 0
    assert flash.names("nowhere") == []
    flash.append("spool/b", b"12")
    flash.append("spool/b", b"3")
    flash.write("spool/a", b"x")
    flash.write("spool/a", b"yz")
    flash.replace("spool/b", memoryview(b"whole")[:3])
    (Path(flash.root) / "spool" / "c.new").write_bytes(b"half")
    assert flash.names("spool") == ["a", "b"]
    assert (flash.read("spool/a"), flash.read("spool/b"), flash.size_bytes("spool/b")) == (b"yz", b"who", 3)
    flash.remove("spool/b")
    flash.remove("spool/b")
    assert flash.names("spool") == ["a"]


def test_reading_into_a_buffer_stops_at_its_end(flash: Flash) -> None:
    """A file longer than the buffer is cut, a shorter one leaves the rest, a missing one gives nothing."""
    buffer = bytearray(b"....")
    flash.write("a", b"123456")
    assert flash.read_into("a", buffer) == 4
    assert flash.read_into("a", memoryview(buffer)[2:]) == 2
    assert bytes(buffer) == b"1212"
    assert flash.read_into("none", buffer) == 0


def test_free_room_is_that_of_the_file_system(flash: Flash, tmp_path: Path) -> None:
    """A number of octets where the folder exists, nothing known where it does not."""
    free_bytes = flash.free_bytes()
    assert free_bytes is not None
    assert 0 < free_bytes <= shutil.disk_usage(tmp_path).total
    assert Flash(str(tmp_path / "nowhere")).free_bytes() is None


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """No flash: every operation raises OSError, which the callers count; none pretends to have worked."""
    (tmp_path / "lamppost").write_bytes(b"")
    flash = Flash(str(tmp_path / "lamppost"))
    for step in (
        lambda: flash.write("a", b""),
        lambda: flash.append("a", b""),
        lambda: flash.replace("a", b""),
        lambda: flash.read("a"),
        lambda: flash.remove("a"),
        lambda: flash.names("a"),
        lambda: flash.size_bytes("a"),
        lambda: flash.make_folder("a"),
    ):
        with pytest.raises(OSError, match=r"."):
            step()


def test_half_written_files_do_not_pile_up_over_the_years(flash: Flash) -> None:
    """A replacement that ends before its rename leaves one file, the same for every name of the folder, and the next one takes it over."""
    for name in ("spool/a", "spool/b", "spool/c"):
        flash.make_folder(name)  # a folder in the way: the rename fails as if the power had gone before it
        with pytest.raises(OSError, match=r"."):
            flash.replace(name, b"half")
    files = [path.name for path in (Path(flash.root) / "spool").iterdir() if path.is_file()]
    assert len(files) == 1
    flash.replace("spool/d", b"whole")
    assert [path.name for path in (Path(flash.root) / "spool").iterdir() if path.is_file()] == ["d"]
    assert flash.names("spool") == ["a", "b", "c", "d"]
