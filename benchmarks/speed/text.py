"""Tables of results."""

from __future__ import annotations


class Table:
    """A Markdown table, row by row; each row is printed as it comes."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: object) -> None:
        """Add a row."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(tuple(str(cell) for cell in cells))
        print(" | ".join(self.rows[-1]), flush=True)

    def markdown(self) -> str:
        """Return the table."""
        lines = [
            " | ".join(self.columns),
            " | ".join("---" for _ in self.columns),
            *(" | ".join(r) for r in self.rows),
        ]
        return "\n".join(f"| {line} |" for line in lines) + "\n"
