"""What programs make of gene names, and how to undo it; the symbol map says whether a reading is a gene."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

UNIQUE = re.compile(r"(.+?)([-.])(\d{1,2})")
"""A name made unique with a number: scanpy writes ``TBCE-1``, R and pandas ``TBCE.1``."""

_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
_PREFIX = re.compile(
    r"(?:GRCh3[78](?:\.p\d+)?|hg19|hg38|b37|human|hsapiens|homo_sapiens)[-_.:]+(.+)", re.IGNORECASE
)
_BRACKETS = re.compile(
    r"(?P<a>.+?) ?(\([^()]*\)|\[\d+\])|(?P<b>.+?)\.\.(\d+|Unknown)\.|(?P<c>.+)\|\d+|\d+\|(?P<d>.+)"
)
_ENSEMBL = re.compile(r"(.*?)[-_|:;,./ ]*(ENSG\d{11})(?:\.\d+)?(?:_PAR_Y)?[-_|:;,./ ]*(.*)", re.IGNORECASE)
_MONTHS = {
    month: number
    for number, names in enumerate(
        (
            "JAN JANUARY JÄN JANUAR JANVIER ENE ENERO GEN GENNAIO JANEIRO",
            "FEB FEBRUARY FEBRUAR FÉV FÉVR FÉVRIER FEBRERO FEBBRAIO FEV FEVEREIRO",
            "MAR MARCH MÄR MÄRZ MRZ MARS MARZO MRT MAART MARÇO MÁRC MAALIS BŘE МАР",
            "APR APRIL AVR AVRIL ABR ABRIL APRILE",
            "MAY MAI MAYO MAG MAGGIO MEI MAIO",
            "JUN JUNE JUNI JUIN JUNIO GIU GIUGNO JUNHO",
            "JUL JULY JULI JUIL JUILLET JULIO LUG LUGLIO JULHO",
            "AUG AUGUST AOÛT AGO AGOSTO AUGUSTUS",
            "SEP SEPT SEPTEMBER SEPTEMBRE SEPTIEMBRE SET SETTEMBRE SETEMBRO SZEPT SYYS WRZ ZÁŘ EYL СЕН",
            "OCT OCTOBER OKT OKTOBER OCTOBRE OCTUBRE OTT OTTOBRE OUT OUTUBRO LOKA PAŹ ŘÍJ EKI ОКТ",
            "NOV NOVEMBER NOVEMBRE NOVIEMBRE NOVEMBRO MARRAS KAS НОЯ",
            "DEC DECEMBER DEZ DEZEMBER DÉC DÉCEMBRE DIC DICIEMBRE DICEMBRE DEZEMBRO JOULU GRU ARA ДЕК",
        ),
        start=1,
    )
    for month in names.split()
}
_ENGLISH = {number: month for month, number in reversed(_MONTHS.items())}
_STEMS = (
    ("JAN",), ("FEB",), ("MARCH", "MARC"), ("APR",), ("MAY",), ("JUN",),
    ("JUL",), ("AUG",), ("SEPT",), ("OCT",), ("NOV",), ("DEC",),
)  # fmt: skip
"""Symbols that a spreadsheet turns into dates: MARCH1 and MARC1 become 1-Mar, SEPT2 becomes 2-Sep."""
_AROUND = re.compile(
    r"^(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? |\bde \b", re.IGNORECASE
)
_FIRST_DAY = date(1899, 12, 30)
_SERIALS = range(36526, 54789)
"""Days of the years 2000 to 2049, as a spreadsheet counts them."""


def repairs(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield kinds of change and the readings of the name without it; just one gene must be among them."""
    clean = name.strip(" \t\r\n\"'\ufeff\u200b\u00a0").translate(_DASHES)
    if clean != name:
        yield "spaces or signs", [clean]
    if match := _PREFIX.fullmatch(name):
        yield "genome in front", [match[1]]
    if match := _ENSEMBL.fullmatch(name):
        yield "Ensembl id beside the symbol", [match[2].upper()]
        yield "Ensembl id beside the symbol", [part for part in (match[1], match[3]) if part]
    if match := _BRACKETS.fullmatch(name):
        yield "id in brackets", [next(part for part in match.group("a", "b", "c", "d") if part)]
    if dates := _dates(name):
        yield "spreadsheet date", [f"{stem}{day}" for month, day in dates for stem in _STEMS[month - 1]]


def looks_like_date(name: str) -> bool:
    """Whether a spreadsheet may have made this name."""
    return bool(_dates(name)) and not name.isdigit()


def mangled(name: str) -> str:
    """Name by R's ``make.names``: points for all signs, ``X`` before a digit."""
    plain = re.sub(r"[^A-Za-z0-9]", ".", name)
    return f"X{plain}" if plain[:1].isdigit() else plain


def is_mangled(name: str) -> bool:
    """Whether ``make.names`` (or Seurat, which exchanges signs) can have given this name."""
    return "." in name or "_" in name or re.match(r"[Xx]\d", name) is not None


def _dates(name: str) -> set[tuple[int, int]]:
    """(month, day) of a name that is a date in any of its forms; two of 9/3/2022."""
    name = re.sub(r"^(\d{5})\.0$", r"\1", name)
    if name.isdigit():
        day = _FIRST_DAY + timedelta(days=int(name)) if int(name[:6]) in _SERIALS and len(name) == 5 else None
        return {(day.month, day.day)} if day else set()
    if re.fullmatch(r"[^\W\d_]+\d+", name):
        return set()  # no date has nothing between month and number, but genes do: MARS1, SET1, AGO2
    text = re.sub(r"[T .]0?0[:.]00([:.]00)?(\.0+)?Z?$", "", name.strip())
    text = _AROUND.sub("", text)
    text = re.sub(r"^X(?=\d)", "", text).replace("年", "-").replace("日", "")
    text = re.sub(r"(\d{1,2})月", lambda month: f" {_ENGLISH.get(int(month[1]), '?')} ", text)
    tokens = re.findall(r"[^\W\d_]+|\d+", text)
    if not 2 <= len(tokens) <= 3 or re.sub(r"[^\W_]+|[-/., ]", "", text):
        return set()
    words = [token for token in tokens if not token.isdigit()]
    numbers = [token for token in tokens if token.isdigit() and len(token) in (1, 2, 4)]
    if len(words) + len(numbers) != len(tokens) or len(words) > 1:
        return set()
    if words:
        month = _MONTHS.get(words[0].upper(), 0)
        found = {(month, int(number)) for number in numbers if len(number) < 4}
    elif len(numbers) < 3 and not re.fullmatch(r"\d{1,2}/\d{1,2}", text):
        return set()
    elif len(numbers[0]) == 4:
        found = {(int(numbers[1]), int(numbers[2]))}
    elif "." in text and not name.startswith("X"):
        found = {(int(numbers[1]), int(numbers[0]))}
    else:
        found = {(int(numbers[0]), int(numbers[1])), (int(numbers[1]), int(numbers[0]))}
    return {(month, day) for month, day in found if 1 <= month <= 12 and 1 <= day <= 31}
