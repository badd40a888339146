"""Excel workbooks as Excel writes them, made by hand: calamine reads and does not write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape
from zipfile import ZipFile

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
Cell = str | int | float | bool | None


def write_workbook(file: Path, sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> None:
    """Lines of cells under the name of each sheet."""
    names = list(enumerate(sheets, start=1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
        "_rels/.rels": _related({"rId1": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>' for number, name in names)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _related(
            {f"rId{number}": ("worksheet", f"worksheets/sheet{number}.xml") for number, _ in names}
        ),
    } | {f"xl/worksheets/sheet{number}.xml": _sheet(sheets[name]) for number, name in names}
    with ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _related(targets: Mapping[str, tuple[str, str]]) -> str:
    inside = "".join(
        f'<Relationship Id="{key}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{inside}</Relationships>'


def _sheet(lines: Sequence[Sequence[Cell]]) -> str:
    rows = "".join(
        f'<row r="{row}">{"".join(_cell(cell, f"{chr(65 + column)}{row}") for column, cell in enumerate(line))}</row>'
        for row, line in enumerate(lines, start=1)
    )
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def _cell(cell: Cell, place: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, int | float):
        return f'<c r="{place}"><v>{cell}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
