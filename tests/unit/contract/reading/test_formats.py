"""Public formats: each of these files gives the readings and scores of the plain CSV, bit for bit, or says what helps.

One truth of three sensors, written as loggers, instruments, controllers and spreadsheets write it. The files go the way
of every log: bytes → lines → readings → grid → scores. A format that is refused is refused with the words in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_agent.log.tail import read_file
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.reading.parse import Parser, Readings
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer

from tests.bundles import make_bundle

SENSORS = ["rpm", "temp", "flow"]
START = datetime(2026, 1, 17, 10, 54, tzinfo=UTC)
COUNT = 40
Row = tuple[datetime, tuple[str, str, str]]


def truth() -> list[Row]:
    """Numbers with one, two, three and no decimals, below and above a thousand, negative, missing."""
    rows = []
    for i in range(COUNT):
        rpm = str(998 + 4 * i)
        temp = f"{-3 + i * 0.75:.2f}" if i % 5 else ""
        rows.append((START + timedelta(minutes=i), (rpm, temp, f"{12 + i * 0.125:.3f}")))
    return rows


ROWS = truth()
BUNDLE = read_bundle(make_bundle(SENSORS, mean=500, scale=400, classifier=True))
SCORER = Scorer(BUNDLE)


@dataclass(frozen=True)
class Format:
    """A file in some manner: ``text`` and how it is encoded, what is configured, and the words of a refusal."""

    text: str
    encoding: str = "utf-8"
    config: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    """None = read as the plain CSV; else words of each refusal."""
    lost: int = 0
    """Readings at the end that are not complete, or at the beginning that are refused."""


def us(decimal: str) -> Callable[[str], str]:
    return lambda text: text.replace(".", decimal)


def thousands(sign: str, decimal: str) -> Callable[[str], str]:
    def write(text: str) -> str:
        whole, point, fraction = text.partition(".")
        grouped = f"{int(whole):,}".replace(",", sign) if whole.lstrip("-") and abs(int(whole)) >= 1000 else whole
        return grouped + (decimal if point else "") + fraction

    return write


def table(
    header: str,
    time: str | Callable[[datetime], str] = "%Y-%m-%d %H:%M:%S",
    sep: str = ",",
    number: Callable[[str], str] = str,
    row: str = "{t}{s}{rpm}{s}{temp}{s}{flow}",
    end: str = "\n",
    rows: list[Row] = ROWS,
) -> str:
    """Write the rows under a header: ``{t}``, the sensors' names, ``{s}`` for the separator, ``{n}`` for the number."""
    lines = [header] if header else []
    for n, (stamp, (rpm, temp, flow)) in enumerate(rows, 1):
        t = stamp.strftime(time) if isinstance(time, str) else time(stamp)
        cells = {"rpm": number(rpm), "temp": number(temp) if temp else "", "flow": number(flow)}
        lines.append(row.format(t=t, s=sep, n=n, **cells))
    return end.join([*lines, ""])


def local(hours: float, pattern: str) -> Callable[[datetime], str]:
    return lambda stamp: (stamp + timedelta(hours=hours)).strftime(pattern)


def since(year: int, month: int, day: int, unit: float, digits: int = 0, ahead: float = 0) -> Callable[[datetime], str]:
    epoch = datetime(year, month, day, tzinfo=UTC)
    return lambda stamp: f"{((stamp - epoch).total_seconds() + ahead) / unit:.{digits}f}"


def quoted(text: str, sep: str = ",") -> str:
    return "\n".join(sep.join(f'"{cell}"' for cell in line.split(sep)) if line else "" for line in text.split("\n"))


def long(
    header: str, row: str, sep: str = ",", number: Callable[[str], str] = str, time: str = "%Y-%m-%d %H:%M:%S"
) -> str:
    lines = [header]
    for stamp, cells in ROWS:
        for name, cell in zip(SENSORS, cells, strict=True):
            lines.append(row.format(t=stamp.strftime(time), s=sep, name=name, value=number(cell) if cell else ""))
    return "\n".join([*lines, ""])


def objects(make: Callable[[datetime, dict[str, float | None]], dict[str, Any]]) -> str:
    lines = []
    for stamp, cells in ROWS:
        values = {name: float(cell) if cell else None for name, cell in zip(SENSORS, cells, strict=True)}
        lines.append(json.dumps(make(stamp, values), ensure_ascii=False))
    return "\n".join([*lines, ""])


ISO = "%Y-%m-%dT%H:%M:%SZ"
EU = "%d.%m.%Y %H:%M:%S"
US = "%m/%d/%Y %I:%M:%S %p"
PLAIN = table("timestamp,rpm,temp,flow", ISO)
NAMES = "rpm,temp,flow"
TOA5 = (
    '"TOA5","CR1000X","CR1000X","12345","CR1000X.Std.05","CPU:press.CR1X","61234","Minute"\n'
    '"TIMESTAMP","RECORD","rpm","temp","flow"\n"TS","RN","rpm","Deg C","l/min"\n"","","Smp","Avg","Avg"\n'
)
LVM = (
    "LabVIEW Measurement\t\nWriter_Version\t2\nReader_Version\t2\nSeparator\tTab\nDecimal_Separator\t{d}\n"
    "Multi_Headings\tNo\nX_Columns\tOne\nTime_Pref\tAbsolute\nOperator\tKim\nDate\t2026/01/17\n"
    "Time\t10:54:00.1234567\n***End_of_Header***\t\n\t\nChannels\t3\t\t\nSamples\t1\t1\t1\n"
    "Date\t2026/01/17\t2026/01/17\t2026/01/17\nTime\t10:54:00\t10:54:00\t10:54:00\nY_Unit_Label\tVolts\tVolts\tVolts\n"
    "X_Dimension\tTime\tTime\tTime\nX0\t0.0\t0.0\t0.0\nDelta_X\t60.0\t60.0\t60.0\n***End_of_Header***\t\t\t\n"
)

FORMATS: dict[str, Format] = {
    # ---- plain separated values
    "plain": Format(PLAIN),
    "semicolon and decimal comma": Format(table("Zeitstempel;rpm;temp;flow", EU, ";", us(","))),
    "semicolon and point": Format(table("Zeit;rpm;temp;flow", sep=";")),
    "semicolon and point, European dates": Format(
        table("Zeit;rpm;temp;flow", EU, ";"), refused="'flow' is '12.000': 12000 or 12.000?", lost=1
    ),
    "European whole numbers above a thousand": Format(
        table("Zeit;rpm", EU, ";", thousands(".", ","), row="{t}{s}{rpm}", rows=ROWS[1:]),
        refused="or decimal",
        lost=COUNT,
    ),
    "tab": Format(table("time\trpm\ttemp\tflow", sep="\t")),
    "tab and decimal comma": Format(table("Zeit\trpm\ttemp\tflow", EU, "\t", number=us(","))),
    "tab and decimal comma, dates as everywhere": Format(
        table("time\trpm\ttemp\tflow", sep="\t", number=us(",")), refused="'flow' is '12,000': 12000 or 12.000?", lost=1
    ),
    "pipe": Format(table("time|rpm|temp|flow", sep="|")),
    "blank after each comma": Format(table("time, rpm, temp, flow", sep=", ")),
    "all quoted": Format(quoted(table("time,rpm,temp,flow"))),
    "decimal comma in quotes, comma between": Format(
        table("time,rpm,temp,flow", number=us(","), row='"{t}","{rpm}","{temp}","{flow}"'),
        refused="'flow' is '12,000': 12000 or 12.000?",
        lost=1,
    ),
    "blanks align the columns": Format(
        table("time  rpm  temp  flow", ISO, rows=ROWS).replace(",,", ",nan,").replace(",", "     "),
        config={"missing": ["nan"]},
    ),
    "blanks, said so": Format(
        table("time rpm temp flow", ISO, row="{t} {rpm}  {temp:.<1}   {flow}"),
        config={"delimiter": "space", "missing": ["."]},
    ),
    "another delimiter": Format(table("time^rpm^temp^flow", sep="^"), config={"delimiter": "^"}),
    "other order, other columns": Format(table("id,flow,time,note,temp,rpm", row="{n},{flow},{t},ok,{temp},{rpm}")),
    # ---- encodings and line ends
    "UTF-8 with a byte order mark": Format(PLAIN, "utf-8-sig"),
    "UTF-16 with a byte order mark": Format(PLAIN, "utf-16"),
    "UTF-16 without": Format(PLAIN, "utf-16-le"),
    "UTF-16, big end first": Format("\ufeff" + PLAIN, "utf-16-be"),
    "carriage return and line feed": Format(PLAIN.replace("\n", "\r\n")),
    "carriage returns alone": Format(PLAIN.replace("\n", "\r"), refused="the file ends in the middle of it"),
    "Latin-1 names around": Format(
        table("Zeit;Öl °C;rpm;temp;flow", EU, ";", us(","), row="{t};5;{rpm};{temp};{flow}"), "cp1252"
    ),
    "a mark before a row in the middle": Format(PLAIN.replace("\n2026-01-17T11:10", "\n\ufeff2026-01-17T11:10")),
    "a mark and the header again": Format(
        PLAIN.replace("\n2026-01-17T11:10", "\n\ufefftimestamp,rpm,temp,flow\n2026-01-17T11:10")
    ),
    # ---- around the table
    "trailing delimiter": Format(table("time;rpm;temp;flow;", EU, ";", us(","), row="{t};{rpm};{temp};{flow};")),
    "trailing delimiter in the rows alone": Format(table("time,rpm,temp,flow", row="{t},{rpm},{temp},{flow},")),
    "two of them": Format(table("time,rpm,temp,flow", row="{t},{rpm},{temp},{flow},,")),
    "trailing delimiter in the header alone": Format(table("time,rpm,temp,flow,")),
    "a last column without a name": Format(table("time,rpm,temp,flow,", row="{t},{rpm},{temp},{flow},x")),
    "a name with a line break": Format(
        table('time,rpm,"temp\n(inside)",flow'),
        refused="name the 4 columns in [log] columns|no line with column names has come before it",
    ),
    "the same, columns named": Format(
        table('time,rpm,"temp\n(inside)",flow'), config={"columns": ["time", "rpm", "temp", "flow"]}
    ),
    "a remark in some rows": Format(
        table("time\trpm\ttemp\tflow\tComment", sep="\t").replace(
            "\n2026-01-17 11:00:00\t1022\t1.50\t12.750\n", "\n2026-01-17 11:00:00\t1022\t1.50\t12.750\tfilter changed\n"
        )
    ),
    "title lines": Format(
        "Press 7\nSerial number: 4711\nOperator;Kim\n\n" + table("Zeit;rpm;temp;flow", EU, ";", us(","))
    ),
    "comments": Format("# made by us\n" + table("# time,rpm,temp,flow") + "# end\n"),
    "comments with a percent sign": Format("% made by us\n" + PLAIN, config={"comment": "%"}),
    "Excel's sep=": Format("sep=;\n" + table("Zeit;rpm;temp;flow", EU, ";", us(","))),
    "units under the names": Format(table("time,rpm,temp,flow\n,1/min,°C,l/min")),
    "units and how they were made": Format(table("Timestamp,rpm,temp,flow\nTS,rpm,Deg C,L/min\n,Smp,Avg,Avg")),
    "no names, said so": Format(table("", ISO), config={"columns": ["time", *SENSORS]}),
    "no names, not said": Format(table("", ISO), refused="name the columns in [log] columns"),
    "names again every hour": Format(
        PLAIN.replace("\n2026-01-17T11:00", "\ntimestamp,rpm,temp,flow\n2026-01-17T11:00")
    ),
    "status column beside each value": Format(
        table("time,rpm,rpm_status,temp,temp_status,flow,flow_status", row="{t},{rpm},0,{temp},OK,{flow},GOOD")
    ),
    "no names, said so, but there are and in another order": Format(
        PLAIN,
        config={"columns": ["timestamp", "temp", "rpm", "flow"]},
        refused="'rpm' has another place among the names in the file than in [log] columns",
    ),
    "other names for the same columns": Format(
        table("timestamp,Drehzahl,temp,flow", ISO), config={"columns": ["timestamp", "rpm", "temp", "flow"]}
    ),
    "the same names again in a comment, in another order": Format(
        table("# time,rpm,temp,flow", rows=ROWS[:20])
        + table("# time,temp,rpm,flow", row="{t},{temp},{rpm},{flow}", rows=ROWS[20:])
    ),
    "other signs under names again": Format(
        table("time,rpm,temp,flow", rows=ROWS[:20]) + table("time;rpm;temp;flow", EU, ";", us(","), rows=ROWS[20:])
    ),
    "a serial number before, the time without a name": Format(
        table("SN,rpm,temp,flow,when", row="1000000017,{rpm},{temp},{flow},{t}")
    ),
    # ---- numbers
    "thousands with a comma in quotes": Format(
        table("time,rpm,temp,flow", number=thousands(",", "."), row='"{t}","{rpm}","{temp}","{flow}"')
    ),
    "thousands with a comma between pipes": Format(table("time|rpm|temp|flow", sep="|", number=thousands(",", "."))),
    "thousands with a point, decimal comma": Format(table("Zeit;rpm;temp;flow", EU, ";", thousands(".", ","))),
    "thousands with an apostrophe": Format(table("Zeit;rpm;temp;flow", ISO, ";", thousands("'", "."))),
    "thousands with a no-break space": Format(table("Date;rpm;temp;flow", EU, ";", thousands("\u202f", ","))),
    "thousands with a no-break space in Latin-1": Format(
        table("Date;rpm;temp;flow", EU, ";", thousands("\xa0", ",")), "cp1252"
    ),
    "thousands with a blank, said so": Format(
        table("time;rpm;temp;flow", EU, ";", thousands(" ", ",")), config={"thousands": " "}
    ),
    "thousands in a column of whole numbers alone": Format(
        table("time|rpm", sep="|", number=thousands(",", "."), row="{t}{s}{rpm}"),
        refused="nothing else in the log tells; say [log] thousands",
        lost=COUNT - 1,
    ),
    "the same, said so": Format(
        table("time|rpm", sep="|", number=thousands(",", "."), row="{t}{s}{rpm}"), config={"thousands": ","}
    ),
    "thousands with the apostrophe of typography": Format(
        table("Zeit;rpm;temp;flow", ISO, ";", thousands("\u2019", "."))
    ),
    "the minus of typography": Format(table("time,rpm,temp,flow", number=lambda text: text.replace("-", "\u2212"))),
    "no value is -9999.0, said as a text": Format(
        table("time,rpm,temp,flow").replace(",,", ",-9999.0,"), config={"missing": ["-9999"]}
    ),
    "no value is -9999": Format(table("time,rpm,temp,flow").replace(",,", ",-9999,"), config={"missing": [-9999]}),
    "no value is 9.99e37 or a word": Format(
        table("time,rpm,temp,flow").replace(",,", ",9.99E+37,", 3).replace(",,", ",OVLD,"),
        config={"missing": [9.99e37, "OVLD"]},
    ),
    "scientific notation": Format(table("time,rpm,temp,flow", number=lambda text: f"{float(text):+.8e}")),
    # ---- times
    "US, twelve hours, said so": Format(table("Date/Time,rpm,temp,flow", US), config={"timestamp": {"format": US}}),
    "US, not said": Format(table("Date/Time,rpm,temp,flow", US), refused="%m/%d/%Y %I:%M:%S %p"),
    "US or EU, not said": Format(
        table("Time,rpm,temp,flow", local(-24 * 12, "%m/%d/%Y %H:%M:%S")), refused="%d/%m/%Y %H:%M:%S"
    ),
    "AM and PM in a column of their own": Format(
        table("Date,Time,AM/PM,rpm,temp,flow", "%Y-%m-%d,%I:%M:%S,%p"),
    ),
    "the same, said so, US": Format(
        table("Date,Time,Half,rpm,temp,flow", "%m/%d/%Y,%I:%M:%S,%p"),
        config={"timestamp": {"column": ["Date", "Time", "Half"], "format": US}},
    ),
    "the same, half said": Format(
        table("Date,Time,Half,rpm,temp,flow", "%m/%d/%Y,%I:%M:%S,%p"),
        config={"timestamp": {"column": ["Date", "Time"], "format": "%m/%d/%Y %I:%M:%S"}},
        refused="column 'Half' says AM: add it to [log.timestamp] column",
    ),
    "date and time apart": Format(table("Datum;Uhrzeit;rpm;temp;flow", "%d.%m.%Y;%H:%M:%S", ";", us(","))),
    "elapsed Time beside Timestamp": Format(table("Time,Timestamp,rpm,temp,flow", row="{n}.0,{t},{rpm},{temp},{flow}")),
    "elapsed Time of a clock's form": Format(
        table("Time,Timestamp,rpm,temp,flow", row="00:{n:02}:00,{t},{rpm},{temp},{flow}")
    ),
    "local and UTC beside each other": Format(
        table(
            "Local Time,UTC Time,rpm,temp,flow", lambda t: f"{local(1, '%Y-%m-%d %H:%M:%S')(t)},{t:%Y-%m-%d %H:%M:%S}"
        )
    ),
    "zone in the name": Format(table('"Date Time, GMT+01:00",rpm,temp,flow', local(1, "%Y-%m-%d %H:%M:%S"))),
    **{
        f"zone in the name, {zone}": Format(table(f'"Time, {zone}",rpm,temp,flow', local(hours, "%Y-%m-%d %H:%M:%S")))
        for zone, hours in {"GMT+5.5": 5.5, "UTC+530": 5.5, "UTC +05:45": 5.75, "GMT\u221207:00": -7}.items()
    },
    "a zone's name in the name": Format(
        table("Time (CET),rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S")),
        refused="column 'Time (CET)' names a time zone, which tells no offset; say [log.timestamp] timezone",
    ),
    "the same, zone said": Format(
        table("Time (CET),rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S")),
        config={"timestamp": {"timezone": "Europe/Berlin"}},
    ),
    **{
        f"zone in a column, {zone}": Format(
            table("time,UTC offset,rpm,temp,flow", local(hours, f"%Y-%m-%d %H:%M:%S,{zone}"))
        )
        for zone, hours in {"+1": 1, "+0530": 5.5, "-07:00": -7, "UTC": 0}.items()
    },
    "an offset that is none of a clock": Format(table("time,offset,zone,rpm,temp,flow", "%Y-%m-%d %H:%M:%S,+5,+12")),
    "a zone's name in a column": Format(
        table("time,tz,rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S,CET")),
        refused="column 'tz' says 'CET', no offset from UTC; say [log.timestamp] timezone",
    ),
    "the same, with the zone said": Format(
        table("time,tz,rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S,CET")),
        config={"timestamp": {"timezone": "Europe/Berlin"}},
    ),
    "zone said": Format(
        table("time,rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S")), config={"timestamp": {"timezone": "Europe/Berlin"}}
    ),
    "hours alone as zone": Format(table("time,rpm,temp,flow", local(1, "%Y-%m-%d %H:%M:%S+01"))),
    "lower-case ISO": Format(table("time,rpm,temp,flow", "%Y-%m-%dt%H:%M:%Sz")),
    "milliseconds after a colon": Format(table("time,rpm,temp,flow", "%Y-%m-%d %H:%M:%S:000")),
    "year first with points": Format(table("time,rpm,temp,flow", "%Y.%m.%d %H:%M:%S")),
    "month by name, said so": Format(
        table("time,rpm,temp,flow", "%d-%b-%Y %H:%M:%S"), config={"timestamp": {"format": "%d-%b-%Y %H:%M:%S"}}
    ),
    "month by name, not said": Format(table("time,rpm,temp,flow", "%d-%b-%Y %H:%M:%S"), refused='"%d-%b-%Y %H:%M:%S"'),
    "two digits of a year, not said": Format(
        table("time,rpm,temp,flow", "%d.%m.%y %H:%M:%S"), refused='"%d.%m.%y %H:%M:%S"'
    ),
    **{
        f"a date in a named column, the clock in {name}": Format(
            table(f"Date,{name},rpm,temp,flow", f"%Y-%m-%d,{clock}"),
            refused=f'a date without a time of day; name the columns of both, [log.timestamp] column = ["Date", "{to}"',
        )
        for name, clock, to in (("x", "%H:%M:%S", "x"), ("HH:MM", "%H:%M", "HH:MM"), ("Hour,Minute", "%H,%M", "..."))
    },
    "a date at midnight beside the clock": Format(
        table("Date,Time,rpm,temp,flow", "%Y-%m-%d 00:00:00,%H:%M:%S"),
        refused='column = ["Date", "Time"], format = "%Y-%m-%d 00:00:00 %H:%M:%S"',
    ),
    "midnight beside the clock, said so": Format(
        table("Date,Time,rpm,temp,flow", "%Y-%m-%d 00:00:00,%H:%M:%S"),
        config={"timestamp": {"column": ["Date", "Time"], "format": "%Y-%m-%d 00:00:00 %H:%M:%S"}},
    ),
    "a date at midnight beside the clock, European": Format(
        table("Datum;Uhrzeit;rpm;temp;flow", "%d.%m.%Y 00:00;%H:%M", ";", us(",")),
        refused='column = ["Datum", "Uhrzeit"], format = "%d.%m.%Y 00:00 %H:%M"',
    ),
    "the year first in two digits, or the day": Format(
        table("time,rpm,temp,flow", "%y.%m.%d %H:%M:%S"),
        refused='or "%y.%m.%d %H:%M:%S" (2026-01-17T1',
    ),
    "a no-break space before AM and PM": Format(table("Time,rpm,temp,flow", "%Y-%m-%d %I:%M:%S\u202f%p")),
    "AM and PM in Spanish": Format(
        table("Time,rpm,temp,flow", lambda t: f"{t:%Y-%m-%d %I:%M:%S} {t:%p}".replace("M", ".\xa0m.").lower())
    ),
    "ISO without signs, not said": Format(
        table("Time,rpm,temp,flow", "%Y%m%dT%H%M%SZ"), refused='say [log.timestamp] format = "%Y%m%dT%H%M%S%z"'
    ),
    "ISO without signs, said so": Format(
        table("Time,rpm,temp,flow", "%Y%m%dT%H%M%SZ"), config={"timestamp": {"format": "%Y%m%dT%H%M%S%z"}}
    ),
    "Unix seconds": Format(table("epoch,rpm,temp,flow", since(1970, 1, 1, 1))),
    "digits of a date, not said": Format(
        table("time,rpm,temp,flow", "%Y%m%d%H%M"), refused='say [log.timestamp] format = "%Y%m%d%H%M" (2026-01-17T'
    ),
    "digits of a date, said so": Format(
        table("time,rpm,temp,flow", "%Y%m%d%H%M"), config={"timestamp": {"format": "%Y%m%d%H%M"}}
    ),
    "hours and minutes without their zeros": Format(
        table("date,hhmm,rpm,temp,flow", lambda t: f"{t:%Y-%m-%d},{int(f'{t - timedelta(hours=10):%H%M}')}"),
        config={"timestamp": {"column": ["date", "hhmm"], "format": "%Y-%m-%d %H%M"}},
        refused="does not fit [log.timestamp] format '%Y-%m-%d %H%M'",
    ),
    "the same after a day of the year": Format(
        table("y,d,hhmm,rpm,temp,flow", lambda t: f"{t:%Y,%j},{int(f'{t - timedelta(hours=10):%H%M}')}"),
        config={"timestamp": {"column": ["y", "d", "hhmm"], "format": "%Y %j %H%M"}},
        refused="does not fit [log.timestamp] format '%Y %j %H%M'",
    ),
    "day of the year, hours and minutes": Format(
        table("y,d,hhmm,rpm,temp,flow", lambda t: f"{t:%Y},{int(f'{t:%j}')},{t:%H%M}"),
        config={"timestamp": {"column": ["y", "d", "hhmm"], "format": "%Y %j %H%M"}},
    ),
    "Unix seconds with a decimal comma": Format(
        table("ts;rpm;temp;flow", lambda t: f"{t.timestamp():.0f},000", ";", us(","), row="{t};{rpm};{temp};{flow};0,5")
        .replace("ts;rpm;temp;flow", "ts;rpm;temp;flow;other")
        .replace(";12,000;", ";12,0;")
    ),
    "Unix milliseconds": Format(table("ts,rpm,temp,flow", since(1970, 1, 1, 1e-3))),
    "LabVIEW seconds, said so": Format(
        table("time,rpm,temp,flow", since(1904, 1, 1, 1, 6)), config={"timestamp": {"format": "labview"}}
    ),
    "GPS seconds, said so": Format(
        table("time,rpm,temp,flow", since(1980, 1, 6, 1, 3, 18)), config={"timestamp": {"format": "gps"}}
    ),
    "FILETIME, said so": Format(
        table("time,rpm,temp,flow", lambda t: str((int(t.timestamp()) + 11_644_473_600) * 10**7)),
        config={"timestamp": {"format": "filetime"}},
    ),
    "Excel's days, said so": Format(
        table("time,rpm,temp,flow", since(1899, 12, 30, 86400, 10)), config={"timestamp": {"format": "excel"}}
    ),
    "Excel's days, not said": Format(
        table("time,rpm,temp,flow", since(1899, 12, 30, 86400, 10)), refused='[log.timestamp] format = "excel"'
    ),
    # ---- instruments and programs
    "Campbell TOA5": Format(
        TOA5 + table("", '"%Y-%m-%d %H:%M:%S"', row="{t},{n},{rpm},{temp},{flow}").replace(",,", ',"NAN",'),
        config={"missing": ["NAN"]},
    ),
    "LabVIEW LVM, absolute": Format(
        LVM.format(d=".") + table("X_Value\trpm\ttemp\tflow\tComment", since(1904, 1, 1, 1, 6), "\t"),
        config={"timestamp": {"column": "X_Value", "format": "labview"}},
    ),
    "LabVIEW LVM, relative": Format(
        LVM.format(d=".") + table("X_Value\trpm\ttemp\tflow\tComment", since(2026, 1, 17, 1, 6), "\t"),
        refused="no column that holds a time",
    ),
    "HOBO": Format(
        '"Plot Title: Press 7"\n'
        + table(
            '"#","Date Time, GMT-07:00","rpm","temp","flow","Coupler Detached (LGR S/N: 1)"',
            local(-7, "%m/%d/%y %I:%M:%S %p"),
            row="{n},{t},{rpm},{temp},{flow},",
        ),
        config={"timestamp": {"format": "%m/%d/%y %I:%M:%S %p"}},
    ),
    "LI-COR": Format(
        "Model:\tLI-7500DS Open Path\nSN:\t75D-1234\nInstrument:\tAIU-0123\nFile Type:\t2\nSoftware Version:\t8.8.32\n"
        "Timestamp:\t10:54:00:000\nTimezone:\tUTC\n"
        + table(
            "DATAH\tSeconds\tNanoseconds\tDate\tTime\trpm\ttemp\tflow\nDATAU\tsecs\tnsecs\tYYYY-MM-DD\tHH:MM:SS\trpm\tC\tlpm",
            "%Y-%m-%d\t%H:%M:%S:000",
            "\t",
            row="DATA\t1768647240\t0\t{t}\t{rpm}\t{temp}\t{flow}",
        ),
    ),
    "BenchLink Data Logger": Format(
        "Name:\tPress 7\nOwner:\tKim\nComments:\t\nAcquisition Date:\t1/17/2026 10:54:00\n\nInstrument:\t34970A\n\n"
        + table(
            "Scan,Time,rpm,Alarm 101,temp,Alarm 102,flow,Alarm 103",
            "%m/%d/%Y %H:%M:%S:000",
            row="{n},{t},{rpm},0,{temp},0,{flow},0",
        ),
        "utf-16",
        config={"timestamp": {"format": "%m/%d/%Y %H:%M:%S:%f"}, "delimiter": ","},
    ),
    "WinCC, a line a value": Format(
        long(
            '"VarName";"TimeString";"VarValue";"Validity";"Time_ms"',
            '"{name}";"{t}";{value};1;46039454166,667',
            ";",
            us(","),
            EU,
        )
        + '"$RT_OFF$";"17.01.2026 11:40:00";0;2;46039486,1\n',
        config={"format": "long"},
    ),
    "Siemens, date and time apart": Format(
        table(
            '"Record";"Date";"UTC Time";"rpm";"temp";"flow"',
            "%m/%d/%Y;%H:%M:%S",
            ";",
            row="{n};{t};{rpm};{temp};{flow}",
        ),
        config={"timestamp": {"column": ["Date", "UTC Time"], "format": "%m/%d/%Y %H:%M:%S"}},
    ),
    "Beckhoff, FILETIME": Format(
        "Name\tScope Export\nFile\tC:\\TwinCAT\\press.tcscopex\nStartTime of export\t134131208400000000\n\n"
        + table("Time\trpm\ttemp\tflow", lambda t: str((int(t.timestamp()) + 11_644_473_600) * 10**7), "\t"),
        config={"timestamp": {"format": "filetime"}},
    ),
    "Codesys trace": Format(
        table("Timestamp;rpm;temp;flow;", "%Y-%m-%d %H:%M:%S,000", ";", row="{t};{rpm};{temp};{flow};")
    ),
    "Excel save, US": Format(
        table("Date,rpm,temp,flow", "%-m/%-d/%Y %-H:%M"), config={"timestamp": {"format": "%m/%d/%Y %H:%M"}}
    ),
    "Excel save, German": Format(table("Datum;rpm;temp;flow", "%d.%m.%Y %H:%M", ";", us(",")), "cp1252"),
    "Excel save, French": Format(
        table("Date et heure;rpm;temp;flow", "%d/%m/%Y %H:%M", ";", us(",")),
        "cp1252",
        config={"timestamp": {"column": "Date et heure", "format": "%d/%m/%Y %H:%M"}},
    ),
    "Excel save, Unicode text": Format(table("Datum\trpm\ttemp\tflow", "%d.%m.%Y %H:%M", "\t", us(",")), "utf-16"),
    "InfluxDB line export": Format(
        table(
            "#datatype,string\n#group,false\n,result,table,_time,rpm,temp,flow", ISO, row=",,0,{t},{rpm},{temp},{flow}"
        )
    ),
    # ---- a line a value, objects
    "a line a value": Format(long("ts,sensor,value", "{t},{name},{value}"), config={"format": "long"}, lost=1),
    "a line a value, no names": Format(
        long("", "{t};{name};{value}", ";", us(","), EU).lstrip("\n"),
        config={"format": "long", "columns": ["time", "sensor", "value"]},
        lost=1,
    ),
    "a line a value without those columns": Format(
        long("ts,what,how much", "{t},{name},{value}"), config={"format": "long"}, refused='needs one named "sensor"'
    ),
    "JSON objects": Format(objects(lambda t, values: {"ts": t.strftime(ISO), **values}), config={"format": "jsonl"}),
    "JSON objects in an object": Format(
        objects(lambda t, values: {"time": int(t.timestamp() * 1000), "id": 7, "fields": values}),
        config={"format": "jsonl"},
    ),
    "JSON objects, date and time apart": Format(
        objects(lambda t, values: {"date": f"{t:%Y-%m-%d}", "time": f"{t:%H:%M:%S}", **values}),
        config={"format": "jsonl"},
    ),
    "JSON objects, time before date, AM and PM apart": Format(
        objects(lambda t, values: {"time": f"{t:%I:%M:%S}", "half": f"{t:%p}", "date": f"{t:%Y-%m-%d}", **values}),
        config={"format": "jsonl"},
    ),
    "JSON objects with an offset": Format(
        objects(lambda t, values: {"time": local(1, "%Y-%m-%d %H:%M:%S")(t), "tz": "+01:00", **values}),
        config={"format": "jsonl"},
    ),
    "JSON objects with a zone's name": Format(
        objects(lambda t, values: {"time": local(1, "%Y-%m-%d %H:%M:%S")(t), "tz": "Europe/Berlin", **values}),
        config={"format": "jsonl"},
        refused="column 'tz' says 'Europe/Berlin', no offset from UTC",
    ),
    "JSON objects with the zone in the key": Format(
        objects(lambda t, values: {"Date Time, GMT+01:00": local(1, "%Y-%m-%d %H:%M:%S")(t), **values}),
        config={"format": "jsonl"},
    ),
    "JSON objects with texts": Format(
        objects(
            lambda t, values: {"timestamp": t.isoformat(), **{k: v if v is None else str(v) for k, v in values.items()}}
        ),
        config={"format": "jsonl"},
    ),
    "JSON objects read as CSV": Format(
        objects(lambda t, values: {"ts": t.strftime(ISO), **values}), refused="no line with column names"
    ),
    "a CSV read as JSON objects": Format(PLAIN, config={"format": "jsonl"}, refused='is [log] format = "jsonl" right?'),
}


def readings(folder: Path, made: Format, sensors: list[str], limit: int = 1 << 20) -> Iterator[Readings]:
    path = folder / "log.csv"
    path.write_bytes(made.text.encode(made.encoding))
    log = LogConfig.model_validate({"path": str(path), "period": "60s", **made.config})
    parser = Parser(log, sensors)
    for lines in read_file(path, log, limit):
        yield parser.parse(lines)


def scores(parts: list[Readings]) -> list[bytes]:
    manifest = BUNDLE.manifest
    grid, found = Grid(manifest.period, manifest.window, 3), []
    for part in parts:
        for block in grid.blocks(part.ts, part.values):
            found += [judged.score.tobytes() for judged in SCORER.score(block.rows)]
    return found


def joined(parts: list[Readings]) -> tuple[list[int], bytes]:
    return np.concatenate([part.ts for part in parts]).tolist(), np.concatenate(
        [part.values for part in parts]
    ).tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_as_the_plain_one_or_says_what_helps(tmp_path: Path, name: str) -> None:
    made = FORMATS[name]
    sensors = ["rpm"] if name in SINGLE else SENSORS
    plain = list(readings(tmp_path, Format(PLAIN), sensors))
    found = list(readings(tmp_path, made, sensors))
    refused = [refusal for part in found for refusal in part.refused]
    if made.refused is None:
        assert refused == []
        assert [part.bad_values for part in found] == [{}] * len(found)
        ts, values = joined(plain)
        width = 8 * len(sensors)
        kept = COUNT - made.lost
        assert joined(found) == (ts[:kept], values[: kept * width])
        if sensors == SENSORS and not made.lost:
            assert scores(found) == scores(plain)
        return
    assert refused
    for refusal in refused:
        assert any(words in refusal.detail for words in made.refused.split("|")), refusal.detail
    assert sum(len(part.ts) for part in found) == (COUNT - made.lost if made.lost else 0)


SINGLE = {
    "European whole numbers above a thousand",
    "thousands in a column of whole numbers alone",
    "the same, said so",
}


@pytest.mark.parametrize("name", [name for name, made in FORMATS.items() if made.refused is None])
def test_each_format_cut_into_pieces_gives_the_same(tmp_path: Path, name: str) -> None:
    whole = joined(list(readings(tmp_path, FORMATS[name], SENSORS)))
    assert joined(list(readings(tmp_path, FORMATS[name], SENSORS, limit=150))) == whole
