"""The tools for accounts and debit cards of tau2's bank as the agent reads them on unlocking one, in our words;
`banking_accounts`, `banking_debit` and `banking_debit_orders` do what they ask."""

from __future__ import annotations

from s1pro.tasks.tau2.banking_tables import BankTool, Parameter

_USER = Parameter("the customer's id")
_ACCOUNT = Parameter("the account's id")
_CHECKING = Parameter("the checking account's id")
_SAVINGS = Parameter("the savings account's id")
_CARD = Parameter("the debit card's id")
_LAST_4 = Parameter("the last 4 digits of the card's number, to verify it")
_CREDIT = Parameter("how many dollars, above 0", "number")
_NEW_PIN = Parameter("the new PIN of 4 digits that the customer chose")
_ACTIVATION = {
    "card_id": _CARD, "last_4_digits": _LAST_4, "expiration_date": Parameter("when the card expires, as MM/YY"),
    "cvv": Parameter("the 3 digits on the back of the card"),
    "pin": Parameter("the PIN of 4 digits that the customer chose"),
}  # fmt: skip

ACCOUNT_TOOLS = (
    BankTool(
        "open_bank_account_4821", "Open a bank account for a customer.",
        {
            "user_id": _USER,
            "account_type": Parameter("checking or savings (both personal), business_checking or business_savings"),
            "account_class": Parameter("the whole official name of the account class"),
        },
    ),
    BankTool(
        "close_bank_account_7392", "Close a checking or savings account.",
        {
            "account_id": _ACCOUNT, "reason": Parameter("why it is closed", required=False),
            "waive_early_closure_fee": Parameter("whether no early closure fee is taken", "boolean", required=False),
        },
    ),
    BankTool(
        "get_all_user_accounts_by_user_id_3847", "All accounts of a customer: checking, savings and credit cards.",
        {"user_id": _USER}, writes=False,
    ),
    BankTool(
        "transfer_funds_between_bank_accounts_7291", "Move money from one bank account to another.",
        {
            "source_account_id": Parameter("the account that pays"),
            "destination_account_id": Parameter("the account that receives"),
            "amount": Parameter("how many US dollars", "number"),
        },
    ),
    BankTool(
        "apply_checking_account_credit_5829", "Credit money to a checking account.",
        {
            "account_id": _CHECKING, "amount": _CREDIT,
            "credit_type": Parameter("rebate_credit for a rebate that is missing, fee_refund for a fee that was wrong"),
        },
    ),
    BankTool(
        "apply_savings_account_credit_6831", "Credit money to a savings account: corrected interest, a refunded fee, "
        "or goodwill.",
        {
            "account_id": _SAVINGS, "amount": _CREDIT,
            "credit_type": Parameter(
                "interest_correction for APY or interest that was wrong, fee_refund for a fee that was wrong, "
                "goodwill_credit for a gesture"
            ),
        },
    ),
    BankTool(
        "submit_interest_discrepancy_report_7294", "Report to the backend team, which looks into it, that the interest "
        "credited to an account does not fit the APY that was expected.",
        {
            "account_id": _SAVINGS, "user_id": _USER,
            "expected_apy": Parameter("the APY that was due, in percent (2.775 for 2.775%)", "number"),
            "actual_apy": Parameter("the APY that was applied, in percent (2.5 for 2.5%)", "number"),
            "amount_difference": Parameter("expected interest less the interest credited, in dollars", "number"),
        },
    ),
    BankTool(
        "get_bank_account_transactions_9173", "The transactions of a bank account, newest first.",
        {"account_id": _ACCOUNT}, writes=False,
    ),
)  # fmt: skip
DEBIT_TOOLS = (
    BankTool(
        "order_debit_card_5739", "Order a debit card for a checking account.",
        {
            "account_id": _CHECKING, "user_id": _USER,
            "delivery_option": Parameter("how fast it is sent: STANDARD, EXPEDITED or RUSH"),
            "delivery_fee": Parameter("the fee for delivery, in dollars", "number"),
            "card_design": Parameter("CLASSIC, PREMIUM or CUSTOM"),
            "design_fee": Parameter("the fee for the design, in dollars", "number"),
            "shipping_address": Parameter("the whole address it is sent to"),
            "excess_replacement_fee": Parameter(
                "the fee for more replacements than are free, if there is one", "number", required=False
            ),
        },
    ),
    BankTool(
        "activate_debit_card_8291", "Activate a NEW debit card: ONLY the first one of a checking account (issue_reason "
        "new_account or first_card). Replaced and reissued cards have tools of their own.", _ACTIVATION,
    ),
    BankTool(
        "activate_debit_card_8292", "Activate a REPLACEMENT debit card: ONLY one for a card that was lost, stolen or "
        "suspected of fraud (issue_reason lost, stolen or fraud). New and reissued cards have tools of their own.",
        _ACTIVATION,
    ),
    BankTool(
        "activate_debit_card_8293", "Activate a REISSUED debit card: ONLY one for a card that expired or was damaged, "
        "for another design, or that the bank replaced (issue_reason expired, damaged, upgrade or bank_reissue). New "
        "and replaced cards have tools of their own.", _ACTIVATION,
    ),
    BankTool(
        "close_debit_card_4721", "Close a debit card for good.",
        {
            "card_id": _CARD,
            "reason": Parameter("lost, stolen, fraud_suspected, damaged, no_longer_needed or account_closing"),
        },
    ),
    BankTool("freeze_debit_card_3892", "Freeze a debit card for a while; it can be unfrozen.", {"card_id": _CARD}),
    BankTool("unfreeze_debit_card_3893", "Unfreeze a frozen debit card.", {"card_id": _CARD}),
    BankTool(
        "clear_debit_card_fraud_alert_4892", "Clear the fraud alert or the velocity block of a debit card.",
        {
            "card_id": _CARD,
            "reason": Parameter(
                "customer_verified (a fraud alert, the customer was verified) or velocity_clear (a velocity block, the "
                "identity was verified)"
            ),
        },
    ),
    BankTool(
        "reset_debit_card_pin_6284", "Give a debit card a new PIN when the customer forgot the old one.",
        {"card_id": _CARD, "last_4_digits": _LAST_4, "new_pin": _NEW_PIN},
    ),
    BankTool(
        "change_debit_card_pin_6285", "Change the PIN of a debit card when the customer knows the current one.",
        {"card_id": _CARD, "current_pin": Parameter("the current PIN of 4 digits"), "new_pin": _NEW_PIN},
    ),
    BankTool(
        "get_debit_cards_by_account_id_7823", "All debit cards of a checking account, with status, issue reason and "
        "expiration date.", {"account_id": _CHECKING}, writes=False,
    ),
    BankTool(
        "request_temporary_debit_card_limit_increase_8374", "Raise the daily limit of a debit card, for ATMs or for "
        "purchases, for 24 hours.",
        {
            "card_id": _CARD,
            "limit_type": Parameter("atm (daily withdrawals at ATMs) or purchase (daily purchases)"),
            "new_limit": Parameter("the limit wanted for that time, in whole dollars", "integer"),
        },
    ),
)  # fmt: skip
