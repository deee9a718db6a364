"""Reports as JSON, and rows back from it. docs/report-schema.md describes the schema."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields

from vidlatent.jobs.measure.results import Coding, Report, ReportRow, Speed, spread_over_row, summarise
from vidlatent.jobs.measure.score import Score
from vidlatent.json_values import to_json_values

FORMAT = "vidlatent-report"
SCHEMA = 1  # grows when a key changes its meaning or goes; new keys alone do not count


def report_to_json(report: Report) -> dict[str, object]:
    """The whole report as JSON values; infinite numbers are the strings "inf" and "-inf"."""
    return to_json_values(
        {
            "format": FORMAT,
            "schema": SCHEMA,
            "kind": report.kind,
            "command": report.command,
            "settings": report.settings,
            "machine": report.machine,
            "clips": {name: asdict(source) for name, source in report.sources.items()},
            "metrics": {name: asdict(definition) for name, definition in report.metrics.items()},
            "summary": [asdict(summary) for summary in summarise(report)],
            "bd": [asdict(delta) for delta in report.deltas],
            "rows": [row_to_json(row) for row in report.rows],
        },
        spell_infinity,
    )


def row_to_json(row: ReportRow) -> dict[str, object]:
    """A row as JSON values, with the rates that follow from its numbers."""
    facts = {
        f.name: getattr(row, f.name)
        for f in fields(row)
        if f.name not in ("pictures", "scores", "speed", "coding")
    }
    facts["scores"] = {name: asdict(score) for name, score in row.scores.items()}
    facts["speed"] = asdict(row.speed) if row.speed else None
    facts["spread"] = {name: asdict(spread) for name, spread in spread_over_row(row).items()}
    facts["coding"] = asdict(row.coding) if row.coding else None
    derived = {"ratio": row.ratio, "encode_fps": row.encode_fps, "decode_fps": row.decode_fps}
    return to_json_values(facts | derived, spell_infinity)


def row_from_json(facts: Mapping) -> ReportRow:
    """The inverse of row_to_json; unknown keys are ignored."""
    known = {f.name: facts[f.name] for f in fields(ReportRow) if f.name in facts}
    known["scores"] = {
        name: Score(
            {key: float(value) for key, value in score["values"].items()},
            tuple(float(value) for value in score["per_frame"]),
            score["first"],
        )
        for name, score in facts["scores"].items()
    }
    known["speed"] = _speed_from_json(facts["speed"]) if facts["speed"] else None
    known["coding"] = Coding(**facts["coding"]) if facts.get("coding") else None
    known["notices"] = tuple(facts["notices"])
    known["times_s"] = tuple(facts.get("times_s", ()))
    return ReportRow(**known)


def _speed_from_json(facts: Mapping) -> Speed:
    runs = {name: tuple(facts.get(name, ())) for name in ("encode_runs_s", "decode_runs_s")}
    return Speed(facts["encode_s"], facts["decode_s"], facts["runs"], **runs)


def spell_infinity(value: object) -> object:
    """Infinities as the strings "inf" and "-inf"; raises ValueError for NaN, which no metric may give."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    if math.isnan(value):
        raise ValueError("a report holds a number that is none")
    return "inf" if value > 0 else "-inf"


def write_json(report: Report) -> str:
    """The report as a JSON document."""
    return json.dumps(report_to_json(report), indent=1, ensure_ascii=False) + "\n"
