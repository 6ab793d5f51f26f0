"""What a report is made of: plain frozen records, no HTML and no plotting.

    Report ── title, headline tiles
      └── Section ── a heading, a sentence of introduction
            └── Block ── Paragraph | Table | KeyValues | Figure | Answers | Samples | Rollouts | Exhibits | Commands
                         | Links | Timings | Verdict

A recipe or the evaluation builds the records from its numbers; `report.html` renders them. Every text field is plain
text and is escaped; only drawings (`svg`, `picture_svg`) are markup, and they must be SVG without scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Cell = str | int | float | bool | None
Tone = Literal["neutral", "good", "bad"]

# What makes a drawing active or fetch something: scripts, handlers, embedded HTML, and references that leave the file.
_ACTIVE_SVG = re.compile(
    r"""<\s*(?:script|foreignObject|iframe|style)\b
    | <[^>]*\son\w+\s*=
    | javascript:
    | href\s*=\s*["'](?!\#|data:image/)
    | url\(\s*["']?(?!\#|data:image/)""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One headline number. `course` is how it came about: a few values, drawn as a small line."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "neutral"
    course: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """A thing that the whole page is about, in the colour that its curves have: number of a series of `report.svg`."""

    label: str
    series: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One sentence that says whether something held; a word says it too, not the colour alone.

    Attributes:
        passed: None is undecided.
        word: instead of "Passed." and the like.
    """

    kind: ClassVar[str] = "verdict"
    text: str
    passed: bool | None
    word: str = ""

    @property
    def said(self) -> str:
        return self.word or {True: "Passed.", False: "Not passed.", None: "Undecided."}[self.passed]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers are set right-aligned, floats with `digits` decimals, booleans as yes/no, None as an empty cell.

    `emphasis` are the indices of rows to set in bold.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""
    digits: int = 3
    emphasis: Sequence[int] = ()

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.caption!r}: row {index} has {len(row)} cells for {len(self.columns)} columns"
                )


@dataclass(frozen=True, kw_only=True)
class KeyValues:
    """Names and values in two columns: the environment, a configuration."""

    kind: ClassVar[str] = "key_values"
    values: Mapping[str, Cell]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An inline SVG drawing; `alt` says in words what it shows, for those who cannot see it.

    Attributes:
        data: the numbers behind it, folded away under the drawing.
    """

    kind: ClassVar[str] = "figure"
    svg: str
    alt: str
    caption: str = ""
    data: Table | None = None

    def __post_init__(self) -> None:
        if not self.alt:
            raise ValueError("a figure needs alt: one sentence that says what it shows")
        check_svg(self.svg)


@dataclass(frozen=True, kw_only=True)
class _Illustrated:
    """A card that may have a picture."""

    picture_svg: str = ""

    def __post_init__(self) -> None:
        if self.picture_svg:
            check_svg(self.picture_svg)

    @property
    def picture_is_wide(self) -> bool:
        """Curves and films get the width of the card; other pictures stand beside the text."""
        return is_wide(self.picture_svg)


@dataclass(frozen=True, kw_only=True)
class Answer(_Illustrated):
    """A question that a model was asked, what it said, and what was right. `correct=None`: there is no verdict."""

    question: str
    answer: str
    expected: str = ""
    correct: bool | None = None
    task: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Answers:
    kind: ClassVar[str] = "answers"
    cards: Sequence[Answer]


@dataclass(frozen=True, kw_only=True)
class Sample(_Illustrated):
    """Something that a model learns from: turns of a conversation as (role, text), or one document."""

    source: str
    turns: Sequence[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Samples:
    kind: ClassVar[str] = "samples"
    cards: Sequence[Sample]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One answer to a question that was asked many times; `reward` fills a bar between 0 and 1."""

    text: str
    reward: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Rollout(_Illustrated):
    """A question with some of its answers."""

    title: str
    question: str
    attempts: Sequence[Attempt]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    kind: ClassVar[str] = "rollouts"
    groups: Sequence[Rollout]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A picture beside what is known about it.

    Attributes:
        alt: what the picture is, for those who cannot see it.
        marks: short words with a tone, such as the verdict of a check.
        facts: names and values; a value may be long and have several lines.
    """

    title: str
    picture_svg: str
    alt: str
    marks: Sequence[tuple[str, Tone]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.picture_svg:
            check_svg(self.picture_svg)
        if not self.alt:
            raise ValueError(f"exhibit {self.title!r} needs alt: what its picture is")


@dataclass(frozen=True, kw_only=True)
class Exhibits:
    kind: ClassVar[str] = "exhibits"
    items: Sequence[Exhibit]


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Lines for a shell. A line that starts with `#` is shown as a comment."""

    kind: ClassVar[str] = "commands"
    lines: Sequence[str]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Links:
    """Pages that lie beside this one: label to relative path."""

    kind: ClassVar[str] = "links"
    targets: Mapping[str, str]

    def __post_init__(self) -> None:
        for target in self.targets.values():
            if not re.fullmatch(r"(?:\.\./)?(?:[\w.-]+/)*[\w.-]+\.html", target):
                raise ValueError(f"a link must be a page beside the report, got {target!r}")


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """How long a stage took and how long it was meant to take."""

    stage: str
    seconds: float
    budget_seconds: float | None = None
    note: str = ""

    @property
    def over_budget(self) -> bool:
        return self.budget_seconds is not None and self.seconds > self.budget_seconds


@dataclass(frozen=True, kw_only=True)
class Timings:
    kind: ClassVar[str] = "timings"
    stages: Sequence[StageTime]

    @property
    def total(self) -> StageTime:
        """The sum; its budget is that of the stages that have one."""
        budgets = [stage.budget_seconds for stage in self.stages if stage.budget_seconds is not None]
        return StageTime(
            stage="all stages",
            seconds=sum(stage.seconds for stage in self.stages),
            budget_seconds=sum(budgets) if budgets else None,
        )

    @property
    def longest(self) -> float:
        """Seconds at the right end of the bars."""
        return max((max(stage.seconds, stage.budget_seconds or 0.0) for stage in self.stages), default=0.0) or 1.0


Block = (
    Paragraph
    | Verdict
    | Table
    | KeyValues
    | Figure
    | Answers
    | Samples
    | Rollouts
    | Exhibits
    | Commands
    | Links
    | Timings
)


@dataclass(frozen=True, kw_only=True)
class Section:
    title: str
    blocks: Sequence[Block]
    intro: str = ""

    @property
    def anchor(self) -> str:
        """The fragment that links to this section."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


@dataclass(frozen=True, kw_only=True)
class Report:
    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    tiles: Sequence[Tile] = ()
    legend: Sequence[LegendEntry] = ()
    footer: str = ""

    def __post_init__(self) -> None:
        anchors = [section.anchor for section in self.sections]
        twice = {anchor for anchor in anchors if anchors.count(anchor) > 1}
        if twice:
            raise ValueError(f"report {self.title!r}: two sections share the title {sorted(twice)[0]!r}")


def is_wide(svg: str) -> bool:
    """Whether a drawing is more than twice as wide as high."""
    box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)
    return box is not None and float(box[1]) > 2 * float(box[2])


def check_svg(svg: str) -> None:
    """Raises ValueError unless `svg` is one SVG element that neither runs nor loads anything."""
    text = svg.strip()
    if not (text.startswith("<svg") and text.endswith("</svg>")):
        raise ValueError(f"a drawing must be one <svg> element, got {text[:40]!r}")
    found = _ACTIVE_SVG.search(text)
    if found:
        raise ValueError(f"a drawing must neither run nor load anything, found {found.group(0).strip()!r}")
