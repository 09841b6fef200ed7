"""The report of an X-ray: as data for JSON, as text of 80 columns, and as an HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras2gp._util.files import write_files
from keras2gp._util.paths import as_path
from keras2gp._util.version import VERSION
from keras2gp.errors import StoreError, one_line
from keras2gp.xrays.files import FILES, require_reports
from keras2gp.xrays.measuring.comparisons import ALPHA
from keras2gp.xrays.reporting.findings import Findings
from keras2gp.xrays.reporting.page import page
from keras2gp.xrays.reporting.text import text_of

__all__ = ["XRay"]


@dataclass(frozen=True, repr=False)
class XRay(Findings):
    """The result of keras2gp.xray: Findings, and the ways to show them."""

    def to_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        data = {"keras2gp": VERSION, "alpha": ALPHA, **asdict(self)}
        for entry, finding in zip(data["findings"], self.findings, strict=True):
            for measure in ("error", "nats", "test_error"):
                difference = getattr(finding, measure)
                if difference is not None:
                    entry[measure]["verdict"] = difference.verdict
        return data

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The report as text of 80 columns."""
        return text_of(self)

    def to_html(self) -> str:
        """The report as one HTML page that needs no other file and no network."""
        return page(self)

    def save(self, directory: str | Path) -> None:
        """Write report.html, report.json and report.txt.

        Args:
            directory: where to; it exists.

        Raises:
            StoreError: they cannot be written, or a file of that name is no report of an X-ray.
        """
        folder = as_path("directory", directory, StoreError)
        require_reports(folder)
        contents = (self.to_html(), self.to_json(), self.to_text())
        write_files([(folder / n, c) for n, c in zip(FILES, contents, strict=True)])

    def __repr__(self) -> str:
        count = len(self.computed)
        return f"<X-ray of {one_line(self.model)}, {self.rows} rows, {count} variants computed>"
