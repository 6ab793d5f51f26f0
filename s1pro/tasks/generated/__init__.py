"""Questions without end, each made and checked by a program."""
