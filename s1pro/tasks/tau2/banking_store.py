"""Temporary: A replaces these imports by those of banking_tables."""

from s1pro.tasks.tau2.banking_tables import TODAY as TODAY
from s1pro.tasks.tau2.banking_tables import BankTables as Store
from s1pro.tasks.tau2.banking_tables import amount as amount_of
from s1pro.tasks.tau2.banking_tables import holdings as holdings
from s1pro.tasks.tau2.banking_tables import made_id as digits

__all__ = ["TODAY", "Store", "amount_of", "digits", "holdings"]
