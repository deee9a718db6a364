"""Facts and rows as tables, on stdout."""

import sys
import textwrap
from typing import Any

from rich.console import Console
from rich.measure import Measurement
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
            lead = f"{indent}{make_printable(key):<{width}}  "
            console.print(lead + wrap(spell(value), len(lead)), markup=False)


def wrap(text: str, indent: int) -> str:
    """Break a long text between words where somebody watches, so that a terminal breaks no number."""
    if not sys.stdout.isatty():
        return text
    room = max(20, Console().width - indent)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def spell(value: Any) -> str:
    """Write a value in few words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {spell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(spell(item) or "-" for item in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else make_printable(str(value))


def show_rows(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print rows of the same facts as a table, a line each.

    Columns that do not fit the terminal are left out, the widest first, and that is said.
    """
    keys = list(rows[0])
    if console is None:
        console = Console()
        if not sys.stdout.isatty():  # nobody watches: as wide as it takes
            console = Console(width=max(WIDE, measure(console, make_table(rows, keys))))
    while measure(console, table := make_table(rows, keys)) > console.width and len(keys) > 2:
        keys.remove(max(keys[1:], key=lambda key: max(len(spell(row[key])) for row in rows)))
    console.print(table)
    if left_out := [key for key in rows[0] if key not in keys]:
        named = ", ".join(key.replace("_", " ") for key in left_out)
        console.print(f"not shown in {console.width} columns: {named}", markup=False, highlight=False)


def make_table(rows: list[dict[str, Any]], keys: list[str]) -> Table:
    """Make the table of some columns of the rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in keys:
        table.add_column(key.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(spell(row[key])) for key in keys))  # a name may look like markup
    return table


def measure(console: Console, table: Table) -> int:
    """Say how many columns of the terminal a table takes."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum
