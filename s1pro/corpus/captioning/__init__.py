"""Captions: which prompt for which element, the calls to a model, and the checks of what comes back."""
