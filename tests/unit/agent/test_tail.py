"""The tail on a single growing file: whole lines, once, wherever the writer's bytes and our blocks are cut."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from fieldwatch_agent.log.tail import LINE_LIMIT, MARK, LogLines, Position, Tail, read_file
from fieldwatch_contract.reading.settings import LogConfig
from hypothesis import given
from hypothesis import strategies as st


class Stamped:
    """A format whose header begins with "time" and whose readings begin with seconds since 2001."""

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        return line.startswith(b"time")

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        for line in lines:
            if line[:9].isdigit():
                return int(line[:9]) * 1_000_000 + 978_307_200_000_000
        return None


def drain(tail: Tail, limit: int = 1 << 20, most: int | None = None, final: bool = False) -> list[LogLines]:
    blocks = []
    while (block := tail.read(limit, most, final=final)) is not None:
        blocks.append(block)
    return blocks


def lines_of(blocks: Sequence[LogLines]) -> list[bytes]:
    return [line for block in blocks for line in block.lines]


LINE = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").rstrip(b"\r").lstrip(b"\0\xef\xbb\xbf"))
ENDS = st.sampled_from([b"\n", b"\r\n"])


@st.composite
def written(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Lines, and the bytes of a file that holds them; the first is plainly 8-bit text."""
    lines = [b"time,a,b", *draw(st.lists(LINE, max_size=30))]
    return lines, b"".join(line + draw(ENDS) for line in lines)


@given(written(), st.lists(st.integers(1, 60), max_size=12), st.integers(1, 300), st.none() | st.integers(1, 5))
def test_any_split_of_the_writers_bytes_gives_the_lines_once(
    log: tuple[list[bytes], bytes], cuts: list[int], limit: int, most: int | None
) -> None:
    lines, data = log
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.touch()
        tail, found, at = Tail(path), [], 0
        for cut in [*cuts, len(data)]:
            with path.open("ab") as file:
                file.write(data[at : at + cut])
            at += cut
            found += drain(tail, limit, most)
        assert lines_of(found) == lines
        assert [start for block in found for start in block.starts] == _starts(data)
        assert tail.changes() == []
        assert tail.lag() == 0


def _starts(data: bytes) -> list[int]:
    starts, at = [], 0
    for line in data.split(b"\n")[:-1]:
        starts.append(at)
        at += len(line) + 1
    return starts


@given(written(), st.data())
def test_every_position_resumes_exactly_after_it(log: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    lines, raw = log
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_bytes(raw)
        blocks = drain(Tail(path), data.draw(st.integers(1, 200)))
        block = data.draw(st.sampled_from(blocks))
        index = data.draw(st.integers(0, len(block)))
        position = Position.from_json(block.position_of(index).to_json())
        if position.offset == 0:
            return  # the beginning is not a place in between
        tail = Tail(path, position)
        rest = drain(tail)
        before = sum(len(each) for each in blocks[: blocks.index(block)]) + index
        assert lines_of(rest) == lines[before:]
        assert tail.resumed is True
        assert tail.changes() == []
        assert all(not each.at_start for each in rest)
        assert [each.fresh for each in rest] == [True] * min(1, len(rest))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_encodings_byte_by_byte(tmp_path: Path, encoding: str, step: int) -> None:
    """Also the characters whose UTF-16 contains the byte of a line end, and those of two units."""
    lines = ["time;Öl °C;ਊ਀", "1;2,5;\u0a0a", "😀;\u010a", "", "letzte"]
    raw = "\r\n".join([*lines, ""]).encode(encoding)
    path = tmp_path / "log.csv"
    tail, found = Tail(path), []
    for at in range(0, len(raw), step):
        with path.open("ab") as file:
            file.write(raw[at : at + step])
        found += drain(tail)
    assert lines_of(found) == [line.encode() for line in lines]
    assert found[0].at_start
    assert found[0].fresh
    middle = found[-1].position_of(len(found[-1]) - 1)
    assert lines_of(drain(Tail(path, middle))) == [b"letzte"]


def test_broken_utf16_is_marked_and_does_not_move_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\xfe" + "time\n".encode("utf-16-le") + b"\x00\xd8" + "\nok\n".encode("utf-16-le"))
    assert lines_of(drain(Tail(path))) == [b"time", "\ufffd".encode(), b"ok"]


def test_a_configured_encoding_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("ζ\nη\n".encode("utf-16-be"))
    assert lines_of(drain(Tail(path, encoding="utf-16-be"))) == ["ζ".encode(), "η".encode()]


def test_nuls_in_front_of_a_line_go_and_preallocated_space_waits(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"time,a\n1,2\n" + b"\0" * 5000)
    tail = Tail(path)
    assert lines_of(drain(tail)) == [b"time,a", b"1,2"]
    with path.open("r+b") as file:
        file.seek(11)
        file.write(b"2,3\n")  # the writer fills the space it had reserved
    assert lines_of(drain(tail)) == [b"2,3"]
    with path.open("ab") as file:
        file.write(b"3,4\n")  # after a crash: the space stays, and writing goes on behind it
    assert lines_of(drain(tail)) == [b"3,4"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("limit", [1000, 1 << 20])
def test_a_line_without_end_is_stepped_over_marked(tmp_path: Path, encoding: str, limit: int) -> None:
    path = tmp_path / "log.csv"
    long = "x" * (LINE_LIMIT + LINE_LIMIT // 2)
    path.write_bytes(f"time,a\n1,2\n{long}".encode(encoding))
    tail = Tail(path)
    assert lines_of(drain(tail, limit)) == [b"time,a", b"1,2"]
    with path.open("ab") as file:
        file.write("yz\n3,4\n".encode("utf-16-le" if encoding == "utf-16" else encoding))
    first, second = drain(tail, limit)
    assert first.overlong
    assert first.lines[0].startswith(b"xxx")
    assert len(first.lines[0]) < 2000
    assert (second.lines, second.overlong) == ([b"3,4"], False)
    assert lines_of(drain(Tail(path, first.position_of(0)), limit))[1:] == [b"3,4"]
    assert lines_of(drain(Tail(path, first.position), limit)) == [b"3,4"]


def test_a_long_line_within_the_limit_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    long = b"y" * (LINE_LIMIT - 10)
    path.write_bytes(b"time\n" + long + b"\n1\n")
    assert lines_of(drain(Tail(path), 100)) == [b"time", long, b"1"]


def test_the_header_in_effect_is_found_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"time,a\n" + b"000000001,1\n" * 20_000 + b"time,b\n" + b"000000002,1\n" * 20_000)
    position = drain(Tail(path, format=Stamped()), most=30_000)[0].position
    block = drain(Tail(path, position, format=Stamped()))[0]
    assert block.header == b"time,b"
    assert len(block.before) > MARK // 12 - 3
    early = drain(Tail(path, format=Stamped()), most=100)[0].position
    assert drain(Tail(path, early, format=Stamped()))[0].header == b"time,a"


def test_read_file_reads_all_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"time,a\n1,2\n3")
    (tmp_path / "log.csv.1").write_bytes(b"time,a\n0,2\n")
    log = LogConfig(path=str(path), period="60s")
    blocks = list(read_file(path, log, 9))
    assert lines_of(blocks) == [b"time,a", b"1,2", b"3"]
    assert [block.torn for block in blocks] == [False, False, True]
    with pytest.raises(FileNotFoundError):
        list(read_file(tmp_path / "none.csv", log))


def test_a_byte_order_mark_before_any_line_is_dropped(tmp_path: Path) -> None:
    """Some programs write one each time they open the file."""
    path = tmp_path / "log.csv"
    mark = b"\xef\xbb\xbf"
    path.write_bytes(mark + b"time,a\n1,2\n" + mark + b"time,a\n" + mark + b"2,3\n")
    assert lines_of(drain(Tail(path))) == [b"time,a", b"1,2", b"time,a", b"2,3"]
