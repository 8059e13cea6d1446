"""The benchmark records as pages: one sortable table of all claims, and a page per record with its bars, figure and tables."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import index as records_index  # of benchmarks
import sources
from command_line import escaped, literal
from pages import GENERATED, heading, toctree, write
from record import RESULTS, Verdict, all_hold, rounded
from sphinx.application import Sphinx

FOLDER = GENERATED / "results"
HEAD = """Every claim that unigrid makes about speed or accuracy has a script in ``benchmarks/claims``; these are their records,
made on the machines named. A bar is a requirement, set beforehand; an aim is reported, but the claim does not depend on it. A
click on a heading sorts by it.

**fresh**: the source that was measured is the one that these pages were built from. **stale**: it has changed since, so that
the numbers may be others today."""
MARKS = {True: "fresh", False: "stale", None: "unknown"}
OUTCOMES = {True: "met", False: "missed", None: "not measured"}


def write_pages(app: Sphinx) -> None:
    """Write the page of each record and the one that lists them."""
    found = records_index.records(RESULTS)
    written = {f"{name_of(path)}.rst": page_of(path, record) for path, record in found.items()}
    for path in found:
        figure = path.with_suffix(".png")
        if figure.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            shutil.copy(figure, FOLDER / f"{name_of(path)}.png")
    write("results", {**written, "index.rst": overview(found)})


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def overview(found: dict[Path, records_index.Record]) -> str:
    """Return the page with one row per record."""
    rows = []
    for path, record in found.items():
        verdicts = records_index.verdicts_of(record)
        missed = sum(verdict.holds is False and not verdict.aim for verdict in verdicts)
        outcome = OUTCOMES[all_hold(verdicts)] if verdicts else "no bar"
        title = path.stem.replace("_", " ")
        rows.append((
            f":doc:`{title} <{name_of(path)}>`", outcome, f"{missed} of {len(verdicts)}", mark(path, record), record["date"],
            path.parent.name, record["machine"]["threads"],
        ))  # fmt: skip
    headings = "benchmark", "claim", "bars missed", "source", "measured", "machine", "threads"
    tree = toctree([name_of(path) for path in found], hidden=True)
    return "\n\n".join([heading("Measured"), HEAD, table(headings, rows), tree]) + "\n"


def mark(path: Path, record: records_index.Record) -> str:
    fresh = sources.is_fresh(path, record)
    return f":bdg-{'success' if fresh else 'warning'}:`{MARKS[fresh]}`"


def page_of(path: Path, record: records_index.Record) -> str:
    """Return the page of one record."""
    machine, threads = record["machine"], record["machine"]["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    facts = f"{machine['processor']}, {machine['cores']} cores, {threads} thread{'s' * (threads > 1)}; {versions}"
    parts = [
        heading(path.stem.replace("_", " ")),
        f"{escaped(record['claim'][0].upper() + record['claim'][1:])}.",
        f"{mark(path, record)} Measured on {record['date']}: {escaped(facts)}.",
    ]
    if "note" in record:
        parts.append(escaped(record["note"]))
    if verdicts := records_index.verdicts_of(record):
        parts.append(table(("quantity", "measured", "required", ""), [cells(verdict) for verdict in verdicts]))
    if path.with_suffix(".png").exists():
        alternative = f"{path.stem.replace('_', ' ')}: the numbers of the table below as curves"
        parts.append(f".. image:: {name_of(path)}.png\n   :alt: {alternative}")
    report = path.with_suffix(".txt")
    if report.exists():
        parts += [heading("As printed", "-"), literal(report.read_text(encoding="utf-8").rstrip())]
    return "\n\n".join(parts) + "\n"


def cells(verdict: Verdict) -> Sequence[str]:
    measured = "not measured" if verdict.measured is None else rounded(verdict.measured)
    holds = "" if verdict.holds is None else verdict.mark if verdict.holds else f"**{verdict.mark}**"
    return escaped(verdict.what), measured, verdict.limit, holds


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that can be sorted."""
    lines = ["   * - " + "\n     - ".join(map(str, row)) for row in [headings, *rows]]
    return ".. list-table::\n   :header-rows: 1\n   :class: sortable\n\n" + "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
