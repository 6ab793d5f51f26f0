"""The stages of the caption pipeline; `base` says what a stage is, `registry` names them all."""
