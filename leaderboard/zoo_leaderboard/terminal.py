"""Tables for a terminal: as many columns as there is room for, and no number cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from zoo_leaderboard.columns import Column, plain

LEAST_TEXT = 10
"""A column of names is folded to this width before a column of numbers is left out."""
FEW_ROWS = 4
"""So many rows can be shown as columns instead."""
_GAP = 2


@dataclass(frozen=True)
class _Grid:
    titles: Sequence[str]
    lefts: Sequence[bool]
    blocks: Sequence[Sequence[Sequence[str]]]
    """Lines of cells; a gap is left between two blocks."""

    def without(self, titles: Sequence[str]) -> "_Grid":
        """The same without these columns."""
        kept = [place for place, title in enumerate(self.titles) if title not in titles]
        blocks = [[[line[place] for place in kept] for line in lines] for lines in self.blocks]
        return _Grid([self.titles[place] for place in kept], [self.lefts[place] for place in kept], blocks)

    def turned(self) -> "_Grid":
        """The same with a column for each line."""
        first, *rest = map(list, zip(self.titles, *(line for lines in self.blocks for line in lines), strict=True))
        return _Grid(first, [True] + [False] * (len(first) - 1), [rest])

    def widths(self) -> list[int]:
        """The width of each column where nothing is folded."""
        lines = [self.titles, *(line for lines in self.blocks for line in lines)]
        return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]

    def text_width(self, room: int) -> int | None:
        """Return how wide columns of text can be where all fits in `room`; None if there is not enough of it."""
        widths = self.widths()
        left = room - _GAP * (len(widths) - 1)
        left -= sum(width for width, text in zip(widths, self.lefts, strict=True) if not text)
        texts = [width for width, text in zip(widths, self.lefts, strict=True) if text]
        for most in range(max([LEAST_TEXT, *texts]), LEAST_TEXT - 1, -1):
            if sum(min(width, most) for width in texts) <= left:
                return most
        return None

    def table(self, text_width: int | None) -> Table:
        """Draw it; without a width, every cell is folded as the room demands."""
        drawn = Table(box=SIMPLE, show_edge=False, pad_edge=False, title_justify="left", caption_justify="left")
        drawn.padding = (0, 0, 0, 1)
        for title, left in zip(self.titles, self.lefts, strict=True):
            side: JustifyMethod = "left" if left else "right"
            whole = text_width is not None and not left
            most = text_width if left else None
            drawn.add_column(Text(title), justify=side, overflow="fold", no_wrap=whole, max_width=most)
        for lines in self.blocks:
            for line in lines:
                drawn.add_row(*map(Text, line))
            drawn.add_section()
        return drawn


def fitted(
    columns: Sequence[Column],
    blocks: Sequence[Sequence[object]],
    room: int,
    *,
    title: str = "",
    dispensable: Sequence[str],
    instead: str,
    turn: bool = False,
) -> Table:
    """Return a table of blocks of rows that is at most `room` wide.

    Where there is too little room, names are folded; then, with `turn`, a few rows are shown as columns; then the
    `dispensable` columns are left out, the first first, and a line under the table names them and says what to do
    `instead`.
    """
    cells = [[[plain(column.cell(row)) for column in columns] for row in rows] for rows in blocks]
    grid = _Grid([column.title for column in columns], [column.left for column in columns], cells)
    left_out, text_width = list[str](), grid.text_width(room)
    if text_width is None and turn and sum(map(len, cells)) <= FEW_ROWS:
        turned = grid.turned()
        text_width = turned.text_width(room)
        grid = grid if text_width is None else turned
    for name in dispensable:
        if text_width is not None:
            break
        if name in grid.titles:
            left_out.append(name)
            grid = grid.without([name])
            text_width = grid.text_width(room)
    drawn = grid.table(text_width)
    drawn.title = Text(title) if title else None
    drawn.caption = Text(f"No room for {', '.join(left_out)}: {instead}.") if left_out else None
    return drawn
