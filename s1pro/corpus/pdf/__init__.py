"""Papers as PDF: what is drawn on a page, and which figures, tables and formulas are there (pypdfium2 only)."""
