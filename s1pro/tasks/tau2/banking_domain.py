"""The `banking_knowledge` domain of tau2-bench: a bank whose agent must find in documents what it may do, and with
which tools. Both sides act on one database.

    banking_tables      the database, ids, and what a hidden tool is
    banking_desk        what the agent can always do, and how it gets at hidden tools
    banking_cards, banking_disputes, banking_limits, banking_accounts, banking_debit, banking_debit_orders
                        the hidden tools
    banking_customer    what the customer can do, and the tools that the agent may give
    banking_documents   the documents and how they are searched

What a tool refuses is answered in words ("Error: ...") and is no failed call; failed are calls that Python cannot do.
What was written before stays. Tools check as little as upstream's do, and write what upstream's write, so databases
can be compared with upstream's. A task says which tools its customer sees; all can be called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.banking_account_texts import ACCOUNT_TOOLS, DEBIT_TOOLS
from s1pro.tasks.tau2.banking_accounts import Accounts
from s1pro.tasks.tau2.banking_card_texts import CARD_TOOLS
from s1pro.tasks.tau2.banking_cards import CardTools
from s1pro.tasks.tau2.banking_debit_orders import DebitOrders
from s1pro.tasks.tau2.banking_desk import FrontDesk
from s1pro.tasks.tau2.banking_documents import DEFAULT, KNOWLEDGE, Library, checked, policy_text, with_documents
from s1pro.tasks.tau2.banking_tables import BankTool
from s1pro.tasks.tau2.banking_tools import SEARCHES, TOOLS
from s1pro.tasks.tau2.records import Tau2Task, ToolCall
from s1pro.tasks.tau2.world import Domain, ToolError, World

TABLES = (
    "users", "accounts", "debit_cards", "referrals", "credit_card_applications", "user_discoverable_tools",
    "user_discoverable_tool_calls", "verification_history", "credit_card_transaction_history", "cash_back_disputes",
    "bank_account_transaction_history", "credit_card_accounts", "agent_discoverable_tools", "task_config",
    "human_transfer_requests", "transaction_disputes", "credit_card_orders", "debit_card_orders",
    "credit_card_closure_reasons", "credit_card_account_flags", "credit_limit_increase_requests", "payment_history",
    "debit_card_disputes",
)  # fmt: skip
_EXAMPLE = BankTool("example_agent_tool_0000", "A tool that does nothing.")
_HIDDEN = (_EXAMPLE, *CARD_TOOLS, *ACCOUNT_TOOLS, *DEBIT_TOOLS)


class BankWorld(CardTools, Accounts, DebitOrders, FrontDesk):
    """See the module docstring."""

    tools = TOOLS
    library: Library | None = None
    catalogue: ClassVar[Mapping[str, BankTool]] = {one.name: one for one in _HIDDEN}

    def settle(self) -> None:
        for name in [*TABLES, *self.db]:
            table = self.db.setdefault(name, {})
            rows = table.setdefault("data", {}) if isinstance(table, dict) else None
            if name not in TABLES:
                raise InputError(f"there is no table {name!r} in a bank; there are {', '.join(TABLES)}")
            if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
                raise InputError(f"{name}: expected an object with the rows by id in 'data'")
            table.setdefault("notes", "")
        self.user_db = self.db
        self.unlocked, self.noted = set(), frozenset()

    def prepare(self, task: Tau2Task) -> None:
        super().prepare(task)
        calls = [action.call for action in task.actions or () if action.call.name == "call_discoverable_agent_tool"]
        self.noted = frozenset(str((call.arguments or {}).get("agent_tool_name")) for call in calls)

    def function(self, call: ToolCall) -> Any:
        try:
            return super().function(call)
        except ToolError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ToolError(f"{call.name} cannot be done ({type(error).__name__}: {error})") from error

    def _check_argument(self, function: str, name: str, value: Any) -> None:
        """Nothing: upstream's tools take what they get."""

    def KB_search(self, query: str) -> Any:
        return (self.library.search(query) if self.library else []) or "No document fits."

    def grep(self, pattern: str) -> Any:
        return (self.library.grep(pattern) if self.library else []) or f"Nothing is found for {pattern}."


class BankDomain(Domain):
    """The files of the domain.

    Args:
        knowledge: how the agent gets at the documents, one of `banking_documents.KNOWLEDGE`.
    """

    name = "banking_knowledge"
    kind = BankWorld
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "db.json": ("users", "accounts", "referrals", "credit_card_accounts", "credit_card_transaction_history")
    }

    def __init__(self, folder: Path, knowledge: str | None = None) -> None:
        self.knowledge = checked(knowledge or DEFAULT)
        self.library = Library(folder / "documents")
        super().__init__(folder)
        searches = {name: SEARCHES[name] for name in KNOWLEDGE[self.knowledge][1]}
        self.tools = {**TOOLS, "assistant": {**TOOLS["assistant"], **searches}}
        self.label = f"{self.name}-{self.knowledge}"

    def read_policy(self, files: Mapping[str, str]) -> str:
        return with_documents(policy_text(self.folder, self.knowledge), self.library, None)

    def policy_of(self, task: Tau2Task) -> str:
        return with_documents(self.policy, self.library, task)

    def world(self, task: Tau2Task) -> World:
        world = BankWorld(self._db, self._user_db)
        world.tools, world.library = self.tools, self.library
        world.prepare(task)
        return world
