"""Static files: all there, all ours or vendored by the book."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import fieldwatch_cloud.web
from fieldwatch_cloud.web.assets import Assets
from fieldwatch_cloud.web.series import BUCKETS, cut
from fieldwatch_contract import clock
from hypothesis import given
from hypothesis import strategies as st

WEB = Path(fieldwatch_cloud.web.__file__).parent
OURS = [path for path in (WEB / "static").glob("*") if path.is_file()] + sorted((WEB / "templates").glob("*"))


def test_modules_import_one_another_by_hashed_names() -> None:
    assets = Assets()
    for source in (WEB / "static").glob("*.js"):
        asset = assets.get(assets.url(source.name).removeprefix("/static/"))
        assert asset is not None
        for target in re.findall(rb'from "\./([^"]+)"', asset.content):
            assert assets.get(target.decode()) is not None, (source.name, target)
            assert re.search(rb"\.[0-9a-f]{10}\.js$", target)


def test_vendored_files_are_what_the_table_says() -> None:
    table = (WEB / "static" / "vendor" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", table, re.M)
    assert {name for name, _ in rows} == {
        path.name for path in (WEB / "static" / "vendor").iterdir() if path.suffix in (".js", ".css")
    }
    for name, digest in rows:
        assert hashlib.sha256((WEB / "static" / "vendor" / name).read_bytes()).hexdigest() == digest
    assert "MIT" in (WEB / "static" / "vendor" / "uPlot.LICENSE.txt").read_text(encoding="utf-8")


def test_nothing_of_ours_points_to_another_origin() -> None:
    assert len(OURS) > 20
    for path in OURS:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http://" not in text, path
        assert "https://" not in text, path


@given(
    start=st.integers(0, 2**51),
    span=st.integers(1, 40 * 365 * clock.DAY),
    limit=st.integers(2, BUCKETS),
)
def test_any_range_is_cut_into_at_most_the_limit(start: int, span: int, limit: int) -> None:
    whole = cut(start, start + span, None, limit)
    assert whole.buckets <= limit
    assert whole.start <= start < whole.start + whole.step
    assert whole.end - whole.step < start + span <= whole.end
    assert whole.start % whole.step == whole.end % whole.step == 0
