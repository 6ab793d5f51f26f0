"""The added tokens of the release, in order, and what each group is for.

Control tokens steer the model or stand for other inputs; a user must not be able to write them. Science tags only say
which vocabulary the text between them uses; everybody may write them. `<MOLFORMULA>` is no token: it only keeps what
it encloses from being taken for a molecule.
"""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
TS_CONTEXT = "<TS_CONTEXT>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"

# What the template writes for a video and for a signal.
VIDEO_MARK = f"<|vision_start|>{VIDEO_PAD}<|vision_end|>"
SIGNAL_MARK = f"<|ts|>{TS_CONTEXT}<|/ts|>"

# Skipped by `decode(..., skip_special_tokens=True)`, together with the beginning, end and padding token.
_SKIPPED = (
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
ADDITIONAL_SPECIAL_TOKENS = (IM_START, IM_END, *_SKIPPED)

# Not "special" for other tools: they are part of the visible text of an answer.
_VISIBLE = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
_MEDIA = (
    "<IMG_CONTEXT>", "<img>", "</img>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<|action_start|>",
    "<|action_end|>", "<|interpreter|>", "<|plugin|>", "<video>", "<|ts|>", "<|/ts|>", TS_CONTEXT,
)  # fmt: skip

# Opening tag -> vocabulary between the tags.
SCIENCE_TAGS = {"<SMILES>": "SMILES", "<protein>": "PROT", "<dna>": "XNA", "<rna>": "XNA"}
VOCABULARIES = ("SMILES", "PROT", "XNA")

_TAGS = tuple(tag for opening in SCIENCE_TAGS for tag in (opening, "</" + opening[1:]))
ADDED_TOKENS = (END_OF_TEXT, *ADDITIONAL_SPECIAL_TOKENS, *_VISIBLE, *_MEDIA, *_TAGS)
SPECIAL = frozenset((END_OF_TEXT, *ADDITIONAL_SPECIAL_TOKENS, *_MEDIA))

PROTECTING_TAGS = ("<MOLFORMULA>", "</MOLFORMULA>")
