"""Facts and rows as tables, on stdout."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vidlatent.printable import make_printable

WIDE = 240  # columns, where nobody watches


def table_console() -> Console:
    """Return the console that tables are printed on; in a file or a pipe they may be wide."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def show_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Print names and values, one fact a line; nested facts are indented."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        if isinstance(value, dict) and value and len(str(value)) > 80:
            console.print(f"{indent}{make_printable(key)}:", markup=False)
            show_facts(value, indent + "  ")
        else:
            console.print(f"{indent}{make_printable(key):<{width}}  {spell(value)}", markup=False)


def spell(value: Any) -> str:
    """Write a value in few words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {spell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(spell(item) for item in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else make_printable(str(value))


def show_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows of the same facts as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, key in enumerate(rows[0]):
        table.add_column(key.replace("_", " "), overflow="fold", no_wrap=i == 0)  # names stay in one piece
    for row in rows:
        table.add_row(*(Text(spell(value)) for value in row.values()))  # a name may look like markup
    table_console().print(table)
