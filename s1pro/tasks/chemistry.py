"""Five families of questions about molecules, scored with RDKit.

| task | question | scored 1 if | graded parts |
|---|---|---|---|
| `formula_from_name` | the formula of a name | every count is right | share of elements that are right, carbon |
| `count_in_smiles` | atoms of an element, or rings | the number is right | off by at most one |
| `smiles_with_group` | a molecule with n carbon atoms and a group | readable, n and group right | each of them; new |
| `mass_from_smiles` | the molar mass | within 5 % | within 1 % |
| `group_in_smiles` | whether a group is there | the decision is right | |

Questions are made by `science.questions` from molecules of the test split; the answers are spread there so that
constants do badly. `smiles_with_group` accepts any molecule that meets the constraint: validity alone would be won by
`CC`.

Baselines, all chosen on questions about training molecules:

* `constant`         the best single answer
* `constant by kind` the best answer for each group or each thing that is counted, where the question has one
* `copy`             the best piece of the question, as it stands there
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.science.formula import element_accuracy, hill
from s1pro.science.groups import groups_of
from s1pro.science.molecules import Molecule, count_atoms
from s1pro.science.questions import Family, Question, answer_text, make_questions, question_text
from s1pro.science.rdkit_access import UnreadableSmiles, chem, read_smiles
from s1pro.science.slots import write_mass
from s1pro.science.system_prompts import SYSTEM_PROMPTS
from s1pro.tasks import extraction
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

TASKS: Mapping[str, Family] = {
    "formula_from_name": "formula",
    "count_in_smiles": "count",
    "smiles_with_group": "smiles",
    "mass_from_smiles": "mass",
    "group_in_smiles": "group",
}
MASS_TOLERANCE = 0.05
_KIND: Mapping[Family, str] = {"count": "feature", "smiles": "group", "group": "group"}
_NUM_CANDIDATES = 60


class ChemistryTask:
    """One family. Implements `tasks.task.Task` and `HasBaselines`.

    Args:
        name: one of `TASKS`.
        test: molecules that are asked about.
        train: molecules that trained the model: baselines are chosen on them, and answers are compared with them.
        num_items: how many questions.
        held_out_wordings: ask in wordings that training data never uses.

    Raises:
        InputError: an unknown name, molecules that are in both `test` and `train`, or too few of them.
    """

    def __init__(
        self,
        name: str,
        *,
        test: Sequence[Molecule],
        train: Sequence[Molecule],
        num_items: int = 200,
        seed: int = 0,
        held_out_wordings: bool = False,
    ) -> None:
        if name not in TASKS:
            raise InputError(f"no such task: {name!r}; known: {', '.join(TASKS)}")
        known = {molecule.smiles for molecule in train}
        both = sorted(known & {molecule.smiles for molecule in test})
        if both:
            raise InputError(f"{len(both)} molecules are in the training and the test split, for example {both[0]}")
        self.name, self.family, self.seed = name, TASKS[name], seed
        self.held_out_wordings = held_out_wordings
        self._train, self._known = train, known
        questions = make_questions(self.family, test, count=num_items, seed=seed)
        self._items = tuple(_item(number, question) for number, question in enumerate(questions))

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        """The science system prompt and the question in one of its wordings."""
        wording = random.Random(f"{self.seed} {item.id}")
        question = question_text(self.family, item.asked, wording, held_out=self.held_out_wordings)
        return Prompt(
            messages=(
                Message(role="system", content=SYSTEM_PROMPTS["science"]),
                Message(role="user", content=question),
            )
        )

    def expected(self, item: Item) -> str:
        """A right answer in the form of the family."""
        return answer_text(self.family, item.answer)

    async def score(self, item: Item, response: str) -> Score:
        return self.grade(item, response)

    def grade(self, item: Item, response: str) -> Score:
        """`score` without waiting."""
        return _GRADERS[self.family](item, response, self._known)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return mean_parts(scores)

    def baselines(self) -> Mapping[str, Mapping[str, str]]:
        """See the module docstring."""
        number = min(1000, 4 * len(self._train))
        training = [
            _item(i, question)
            for i, question in enumerate(
                make_questions(self.family, self._train, count=number, seed=self.seed + 1, at_most=True)
            )
        ]
        answers = {"constant": dict.fromkeys((i.id for i in self._items), self._best_constant(training))}
        if self.family in _KIND:
            answers["constant by kind"] = self._by_kind(training, answers["constant"])
        answers["copy"] = self._best_copy(training)
        return answers

    def _best_constant(self, training: Sequence[Item]) -> str:
        candidates = _CANDIDATES[self.family](training, self._train)
        return max(candidates, key=lambda answer: self._total(training, lambda _: answer))

    def _by_kind(self, training: Sequence[Item], otherwise: Mapping[str, str]) -> dict[str, str]:
        kind = _KIND[self.family]
        best = {
            value: self._best_constant([item for item in training if item.asked[kind] == value])
            for value in dict.fromkeys(item.asked[kind] for item in training)
        }
        return {item.id: best.get(item.asked[kind], otherwise[item.id]) for item in self._items}

    def _best_copy(self, training: Sequence[Item]) -> dict[str, str]:
        slot = max(training[0].asked, key=lambda name: self._total(training, lambda item: str(item.asked[name])))
        return {item.id: str(item.asked[slot]) for item in self._items}

    def _total(self, items: Iterable[Item], answer: Callable[[Item], str]) -> float:
        return sum(self.grade(item, answer(item)).value for item in items)


def _item(number: int, question: Question) -> Item:
    molecule = question.molecule
    truth = {**question.answer, "name": molecule.name, "mass": molecule.mass, "atoms": dict(molecule.atoms)}
    return Item(id=f"{question.family}-{number:04}", asked=dict(question.asked), answer=truth)


def _grade_formula(item: Item, response: str, known: set[str]) -> Score:
    atoms, truth = extraction.formula_in(response), item.answer["atoms"]
    if atoms is None:
        return Score(value=0.0, valid=False, parts={"elements": 0.0, "carbon": 0.0})
    parts = {"elements": element_accuracy(atoms, truth), "carbon": float(atoms.get("C") == truth.get("C"))}
    return Score(value=float(atoms == truth), extraction=hill(atoms), parts=parts)


def _grade_count(item: Item, response: str, known: set[str]) -> Score:
    count, truth = extraction.whole_number_in(response), item.answer["count"]
    if count is None:
        return Score(value=0.0, valid=False, parts={"within one": 0.0})
    return Score(value=float(count == truth), extraction=count, parts={"within one": float(abs(count - truth) <= 1)})


def _grade_mass(item: Item, response: str, known: set[str]) -> Score:
    mass, truth = extraction.mass_in(response), item.answer["mass"]
    if mass is None:
        return Score(value=0.0, valid=False, parts={"within 1 %": 0.0})
    error = abs(mass / truth - 1)
    return Score(value=float(error <= MASS_TOLERANCE), extraction=mass, parts={"within 1 %": float(error <= 0.01)})


def _grade_group(item: Item, response: str, known: set[str]) -> Score:
    truth = extraction.yes_or_no_in(response)
    return Score(value=float(truth == item.answer["check"][0][1]), extraction=truth, valid=truth is not None)


def _grade_smiles(item: Item, response: str, known: set[str]) -> Score:
    smiles = extraction.smiles_in(response)
    facts = None if smiles is None else _facts(smiles)
    if facts is None:
        return Score(value=0.0, extraction=smiles, valid=False, parts={"carbon": 0.0, "group": 0.0})
    canonical, carbon, groups = facts
    right = {"carbon": float(carbon == item.asked["carbon"]), "group": float(item.asked["group"] in groups)}
    return Score(value=min(right.values()), extraction=smiles, parts={**right, "new": float(canonical not in known)})


@functools.lru_cache(maxsize=4096)
def _facts(smiles: str) -> tuple[str, int, tuple[str, ...]] | None:
    """Canonical SMILES, carbon atoms and groups; None if it is not one readable, neutral, connected molecule."""
    try:
        molecule = read_smiles(smiles)
    except UnreadableSmiles:
        return None
    if "." in smiles or sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        return None
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return None
    return str(chem().MolToSmiles(molecule)), count_atoms(molecule).get("C", 0), groups_of(molecule)


def _frequent_answers(family: Family) -> Callable[[Sequence[Item], Sequence[Molecule]], list[str]]:
    def candidates(items: Sequence[Item], train: Sequence[Molecule]) -> list[str]:
        counts = Counter(answer_text(family, item.answer) for item in items)
        return [answer for answer, _ in counts.most_common(_NUM_CANDIDATES)]

    return candidates


def _mass_candidates(items: Sequence[Item], train: Sequence[Molecule]) -> list[str]:
    masses = sorted(item.answer["mass"] for item in items)
    step = max(1, len(masses) // _NUM_CANDIDATES)
    return [f"{write_mass(mass)} g/mol" for mass in masses[::step]]


def _smiles_candidates(items: Sequence[Item], train: Sequence[Molecule]) -> list[str]:
    """The training molecules that meet most of the constraints."""
    wanted = Counter((item.asked["carbon"], item.asked["group"]) for item in items)

    def met(molecule: Molecule) -> int:
        return sum(wanted[molecule.atoms.get("C", 0), group] for group in molecule.groups)

    best = sorted(train, key=lambda molecule: (-met(molecule), molecule.smiles))[:5]
    return [answer_text("smiles", {"smiles": molecule.smiles}) for molecule in best]


_GRADERS: Mapping[Family, Callable[[Item, str, set[str]], Score]] = {
    "formula": _grade_formula,
    "count": _grade_count,
    "smiles": _grade_smiles,
    "mass": _grade_mass,
    "group": _grade_group,
}
_CANDIDATES: Mapping[Family, Callable[[Sequence[Item], Sequence[Molecule]], list[str]]] = {
    "formula": _frequent_answers("formula"),
    "count": _frequent_answers("count"),
    "smiles": _smiles_candidates,
    "mass": _mass_candidates,
    "group": _frequent_answers("group"),
}
