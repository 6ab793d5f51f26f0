"""What the agent reads when it unlocks tools of `banking_cards`, `banking_disputes`, `banking_limits`, in our words."""

from __future__ import annotations

from s1pro.tasks.tau2 import banking_cards as cards
from s1pro.tasks.tau2 import banking_disputes as disputes
from s1pro.tasks.tau2 import banking_limits as limits
from s1pro.tasks.tau2.banking_tables import BankTool, Parameter


def _text(about: str) -> Parameter:
    return Parameter(about)


def _amount(about: str, *, required: bool = True) -> Parameter:
    return Parameter(about, "number", required)


def _whole(about: str) -> Parameter:
    return Parameter(about, "integer")


def _flag(about: str, *, required: bool = True) -> Parameter:
    return Parameter(about, "boolean", required)


def _choice(about: str, allowed: tuple[str, ...]) -> Parameter:
    return Parameter(f"{about}. One of: {', '.join(repr(one) for one in allowed)}")


def _changes(name: str, about: str, /, **parameters: Parameter) -> BankTool:
    return BankTool(name, about, parameters)


def _looks(name: str, about: str, /, **parameters: Parameter) -> BankTool:
    return BankTool(name, about, parameters, writes=False)


_USER = _text("Id of the customer")
_CARD = _text("Id of the credit card account")
_TRANSACTION = _text("Id of the transaction")
_MERCHANT = _flag("Whether the customer has tried to settle it with the merchant first")

_DESK = (
    _changes(
        "update_transaction_rewards_3847", "Correct the rewards that a credit card transaction has earned.",
        transaction_id=_TRANSACTION, new_rewards_earned=_text("The right rewards, such as '6300 points'"),
    ),
    _looks(
        "initial_transfer_to_human_agent_0218",
        "Begin to hand the user over to a human, as a special protocol for certain situations asks.",
    ),
    _looks(
        "initial_transfer_to_human_agent_1822",
        "Begin to hand the user over to a human, as a special protocol for certain situations asks.",
    ),
    _looks(
        "emergency_credit_bureau_incident_transfer_1114",
        "For the credit bureau reporting incident of 11/14 only: note the case as an emergency, so that the team that "
        "corrects such reports takes it first.",
    ),
    _changes(
        "order_replacement_credit_card_7291",
        "Order a new credit card in place of a customer's old one, which is cancelled by it.",
        credit_card_account_id=_CARD, user_id=_USER, shipping_address=_text("Where the card is sent, in full"),
        reason=_choice("Why the card is replaced", cards.REPLACEMENTS),
        expedited_shipping=_flag("Whether it is sent in 2-3 business days instead of 7-10", required=False),
    ),
    _looks(
        "get_pending_replacement_orders_5765", "Look whether a new card is on its way for a credit card account.",
        credit_card_account_id=_CARD,
    ),
    _changes(
        "log_credit_card_closure_reason_4521", "Write down why a customer wants to close a credit card account.",
        credit_card_account_id=_CARD, user_id=_USER, closure_reason=_choice("The reason", cards.CLOSURES),
    ),
    _looks(
        "get_closure_reason_history_8293", "The reasons for closing a credit card account that were written down.",
        credit_card_account_id=_CARD,
    ),
    _changes(
        "apply_statement_credit_8472", "Give a customer money as a credit on the statement of a credit card.",
        user_id=_USER, credit_card_account_id=_CARD, amount=_amount("How many dollars, such as 25.00"),
        reason=_choice("What the credit is for", cards.CREDITS),
    ),
    _changes(
        "apply_credit_card_account_flag_6147",
        "Mark a credit card account from today until a day: its annual fee is waived, it has a promotional rate or "
        "more rewards, and the like.",
        credit_card_account_id=_CARD, user_id=_USER, flag_type=_choice("What the mark means", cards.FLAGS),
        expiration_date=_text("The last day of the mark, as MM/DD/YYYY"),
        reason=_choice("Why it is given", cards.FLAG_REASONS),
    ),
    _changes(
        "close_credit_card_account_7834", "Close a customer's credit card account for good.",
        credit_card_account_id=_CARD, user_id=_USER,
    ),
    _changes(
        "pay_credit_card_from_checking_9182",
        "Pay what a customer owes on a credit card from their checking account with Rho-Bank. The amount is taken from "
        "the one and from the debt of the other.",
        user_id=_USER, checking_account_id=_text("Id of the checking account that pays"), credit_card_account_id=_CARD,
        amount=_amount("How many dollars are paid; above 0"),
    ),
)  # fmt: skip
_DISPUTES = (
    _changes(
        "file_credit_card_transaction_dispute_4829", "Open a formal case about a credit card transaction.",
        transaction_id=_TRANSACTION,
        card_action=_choice(
            "What becomes of the card: it stays as it is, or is cancelled and replaced. It is only noted; no card is "
            "ordered by it", disputes.CARD_ACTIONS,
        ),
        card_last_4_digits=_text("The last four digits of the card"), full_name=_text("Full legal name of the holder"),
        user_id=_USER, phone=_text("Phone number for the case"), email=_text("Email address for the case"),
        address=_text("Postal address for the case"), contacted_merchant=_MERCHANT,
        purchase_date=_text("Day of the purchase, as MM/DD/YYYY"),
        issue_noticed_date=_text("Day on which the customer saw the problem, as MM/DD/YYYY"),
        dispute_reason=_choice("The reason", disputes.REASONS),
        resolution_requested=_choice("What the customer wants", disputes.RESOLUTIONS),
        eligible_for_provisional_credit=_flag("Whether the customer may have a provisional credit"),
        partial_refund_amount=_amount("How many dollars; only, and always, with 'partial_refund'", required=False),
    ),
    _looks(
        "get_user_dispute_history_7291",
        "All cases about credit card transactions of a customer: ids, transactions, reasons, states and days.",
        user_id=_USER,
    ),
    _changes(
        "file_debit_card_transaction_dispute_6281",
        "Open a formal case about a debit card transaction under Regulation E. It is about money of the account "
        "itself, and who is liable depends on when it was reported.",
        transaction_id=_TRANSACTION, account_id=_text("Id of the checking account of the card"),
        card_id=_text("Id of the debit card"), user_id=_USER,
        dispute_category=_choice("What kind of case it is", disputes.CATEGORIES),
        transaction_date=_text("Day of the transaction, as MM/DD/YYYY"),
        discovery_date=_text("Day on which the customer first saw the problem, as MM/DD/YYYY"),
        disputed_amount=_amount("How many dollars it is about"),
        transaction_type=_choice("What kind of transaction it was", disputes.KINDS),
        card_in_possession=_flag("Whether the customer still has the card"),
        pin_compromised=_choice("Whether somebody else may know the PIN", disputes.PIN_STATES),
        contacted_merchant=_MERCHANT,
        police_report_filed=_flag("Whether the police was told; advised for fraud above $500"),
        written_statement_provided=_flag(
            "Whether the customer has described in writing what happened; Regulation E asks for it before a "
            "provisional credit"
        ),
        provisional_credit_eligible=_flag(
            "Whether the customer may have a provisional credit, by the Debit Card Provisional Credit Guidelines"
        ),
        customer_max_liability_amount=_amount(
            "The most dollars that the customer may have to bear, by when it was reported (Regulation E) and by the "
            "disputed amount; -1 if there is no limit"
        ),
        card_action=_choice("What is done with the card", disputes.DEBIT_ACTIONS),
    ),
    _looks(
        "get_debit_dispute_status_7483",
        "All cases about debit card transactions of a customer: ids, kinds, amounts, states and provisional credits.",
        user_id=_USER,
    ),
    _changes(
        "set_debit_card_recurring_block_7382",
        "Decline all recurring payments (subscriptions) of a debit card, or allow them again. Single purchases are not "
        "touched.",
        card_id=_text("Id of the debit card"), block_recurring=_flag("True to decline them, false to allow them"),
    ),
    _looks(
        "get_atm_deposit_images_8473", "The pictures of the envelope and the checks of a deposit at an ATM.",
        transaction_id=_text("Id of the transaction of the deposit"),
    ),
)  # fmt: skip
_LIMITS = (
    _changes(
        "submit_credit_limit_increase_request_7392", "Hand in a request for a higher limit of a credit card.",
        credit_card_account_id=_CARD, user_id=_USER,
        requested_increase_amount=_whole("By how many dollars the limit should grow, such as 2500"),
    ),
    _looks(
        "get_credit_limit_increase_history_4829",
        "All earlier requests for a higher limit of a credit card, with days, amounts and states.",
        credit_card_account_id=_CARD,
    ),
    _looks(
        "get_payment_history_6183", "The payments for a credit card account, newest first.",
        credit_card_account_id=_CARD, months=_whole("For how many months"),
    ),
    _changes(
        "approve_credit_limit_increase_5847", "Grant a customer a higher limit of a credit card, which counts at once.",
        credit_card_account_id=_CARD, user_id=_USER,
        new_credit_limit=_whole("The whole new limit in dollars, such as 7500"),
    ),
    _changes(
        "deny_credit_limit_increase_5848", "Refuse a customer a higher limit of a credit card.",
        credit_card_account_id=_CARD, user_id=_USER, denial_reason=_choice("Why it is refused", limits.DENIALS),
    ),
)  # fmt: skip
CARD_TOOLS: tuple[BankTool, ...] = (*_DESK, *_DISPUTES, *_LIMITS)
