"""Typed records of any domain as text that can be read back: quantities, schemas, grammars, task forms, verification.

schema.Schema + schema.Record --grammar.Grammar--> descriptions --grammar.Grammar.parse--> values
                              --forms.make_tasks--> questions and answers in eight forms --verify--> verdicts
"""
