"""Tools that a model may use, and tasks that need them."""
