"""The claims of the paper, repeated in miniature (`s1pro claims`): one module per claim, the frame around them, and
the report. Which claims there are says `registry.py`; what a claim is, `claim.py`."""
