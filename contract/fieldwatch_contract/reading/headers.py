"""Follows the headers of one log: which one is in effect, and what its columns are once a line of data has come.

    | state | until |
    |---|---|
    | a file begins, no header in it yet: a header need not resemble the one before | a header or a reading |
    | after a header or a file's start: text and units are skipped, :data:`PREAMBLE` lines at most | a reading |
    | a header without columns: the next line of data tells what they are | that line |
    | columns in effect, also in later files without a header | another header |

Under a header that names none of the bundle's sensors, a line that fits the columns before it alone brings them back.
"""

from __future__ import annotations

from fieldwatch_contract.reading.dialect import Columns, Dialects, split
from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import is_number
from fieldwatch_contract.reading.text import BOM
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.words import is_processing, some, value_a_line

PREAMBLE = 50
"""Lines of text at the beginning of a file that are skipped at most; further ones are refused."""

_DATA = frozenset(bytes([each]) for each in b"0123456789{")


class Headers:
    """Keeps the header in effect and its columns; tells what before the data is skipped."""

    def __init__(self, log: LogConfig, dialects: Dialects, times: Times) -> None:
        self._log = log
        self._dialects = dialects
        self._times = times
        self._opening = True
        self._seeking = True
        self._passed = 0
        self._before: tuple[bytes | None, Columns] | None = None
        self._misplaced: str | None = None
        self.current: bytes | None = None
        """The header in effect, None where there is none or the configuration names the columns."""
        self.columns: Columns | None = None
        """The columns in effect, None until a header and a line of data have been seen."""
        self.units: dict[str, str] = {}
        """Units by column, where a row below the names gives them."""

    # ---- where in the file -----------------------------------------------------------------------------------------

    def begin_file(self) -> None:
        """Expect a header, or text before the data."""
        self._opening, self._seeking, self._passed = True, True, 0

    def resume_file(self) -> None:
        """Continue in the middle of a file."""
        self._opening = False

    def begin_data(self) -> None:
        """A reading has come: what is no reading from here on is refused, up to the next header."""
        self._opening = self._seeking = False

    # ---- headers ---------------------------------------------------------------------------------------------------

    def is_header(self, line: bytes) -> bool:
        """Tell whether the next line of the file names columns."""
        return self._dialects.is_header(line, None if self._opening else self.current)

    def take(self, line: bytes) -> None:
        """Put a header into effect."""
        line = line.removeprefix(BOM)
        self._opening, self._seeking, self._passed = False, True, 0
        if self._log.columns is not None:
            self._misplaced = self._dialects.misplaced(line)
            self.columns = None if self._misplaced else self.columns
            return
        if line == self.current and self.columns is not None:
            return
        if self.columns is not None:
            self._before = self.current, self.columns
        self.current = line
        self.columns = None

    def columns_for(self, line: bytes) -> Columns:
        """Return the columns in effect, or else those that a header's first row tells.

        These are in effect only from :meth:`settle` on. Raises :class:`.lines.RefusedError`.
        """
        if self.columns is not None:
            return self.columns
        if self.current is None and self._log.columns is None:
            raise RefusedError("header", f"no line with column names has come before it; {_cure(line)}")
        if self._misplaced is not None:
            raise RefusedError(
                "header",
                f"{self._misplaced!r} has another place among the names in the file than in [log] columns; "
                "put [log] columns right, or leave it out",
            )
        before, header = self._before, self.current or b""
        if before is None or not self._dialects.is_foreign(header):
            columns = self._dialects.understand(self.current, line)
            names = columns.names if columns.foreign else ()
        else:
            columns = before[1]
            names = self._dialects.names(header, columns.delimiter)
            count = len(split(line, columns.delimiter, self._dialects.decode))
            if count in columns.widths and count != len(names):
                self.current, self._before = before[0], None
                return columns
        if names:
            known = f"none of the bundle's {len(columns.order)} sensors has a column"
            if value_a_line(names) and self._log.format == "csv":
                known += f", the columns are {some(names)}"
                raise RefusedError("header", f'{known}; if a line holds one value, say [log] format = "long"')
            raise RefusedError("header", f"{known}; the columns are {some(names)}")
        return columns

    def is_other_delimiter(self, columns: Columns) -> bool:
        """Tell whether the columns before these were separated by another delimiter."""
        return self._before is not None and self._before[1].delimiter != columns.delimiter

    def settle(self, columns: Columns) -> str:
        """Put columns into effect; return how they differ from those before, or from the bundle's sensors, in words."""
        self.columns = columns
        return columns.describe() if self._before is None else columns.change_from(self._before[1])

    # ---- before the data -------------------------------------------------------------------------------------------

    def skip(self, line: bytes) -> bool:
        """Tell whether a line that is not a reading is text before the data: a title, a serial number, units.

        Such lines are counted, and units are kept.
        """
        if not self._seeking or self._passed >= PREAMBLE or line.lstrip(b' "\t')[:1] in _DATA:
            return False
        if self._log.format == "jsonl":
            return False
        delimiters = self._dialects.delimiters if self.columns is None else (self.columns.delimiter,)
        fields = max((line.split(each) for each in delimiters), key=len)
        unknown = self.current is None and self.columns is None
        texts = [self._dialects.decode(each) for each in fields]
        titled = unknown and not any(":" in each and self._times.one(each) is not None for each in texts)
        if titled or not any(is_number(each) for each in texts):
            self._note_units(line)
            self._passed += 1
            return True
        return False

    def _note_units(self, line: bytes) -> None:
        """Keep a row of units below the names."""
        for delimiter in self._dialects.delimiters if self.current is not None else ():
            names, cells = (self._dialects.names(each, delimiter) for each in (self.current or b"", line))
            if len(names) == len(cells) > 1 and self._dialects.is_units(cells):
                if all(is_processing(cell) for cell in cells if cell):
                    return
                self.units = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell}


def _cure(line: bytes) -> str:
    if line.lstrip().startswith(b"{"):
        return 'it is a JSON object: say [log] format = "jsonl"'
    return "if the log has none, name the columns in [log] columns"
