"""The processor of a model folder: its tokenizer and its chat template under one name.

    render                 conversation -> text
    encode_chat            conversation -> ids, for prompts
    encode_training_chat   conversation -> ids and which of them the assistant wrote, for the loss

Prompts are encoded as one text, exactly as the release does. A training conversation is encoded piece by piece, cut
where the assistant begins and ends: that is where generation begins in service, so no token may reach across. The two
give the same ids unless an earlier answer begins with a line end, or a turn leaves a science tag open: in one text the
tag also rules the turns after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.inputs.chat import MAX_TEMPLATE_BYTES, TEMPLATE_FILE, ChatTemplate, Rendered, default_template
from s1pro.inputs.detect import Detector
from s1pro.inputs.files import parse_text, read_file, write_files
from s1pro.inputs.tokenizer import Tokenizer

# Settings of image and video preparation: kept with the processor, not read here.
_KEPT_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")

Messages = Iterable[Message | Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None


class Processor:
    """See the module docstring.

    Args:
        tokenizer: of the model.
        template: chat template; default the released one.
        kept_files: files of the folder that are saved again unchanged.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None = None,
        kept_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template or default_template()
        self._kept_files = dict(kept_files or {})

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, detector: Detector = "rules") -> Processor:
        """Reads a model or tokenizer folder. Without `chat_template.jinja` the released template is used.

        Raises:
            InputError: a file is missing or wrong; the message names it.
            MissingExtraError: `detector="rdkit"` without RDKit.
        """
        folder = Path(folder)
        template = None
        if (folder / TEMPLATE_FILE).exists():
            data = read_file(folder, TEMPLATE_FILE, max_bytes=MAX_TEMPLATE_BYTES)
            template = ChatTemplate(parse_text(data, TEMPLATE_FILE))
        kept = {name: read_file(folder, name) for name in _KEPT_FILES if (folder / name).exists()}
        return cls(Tokenizer.from_pretrained(folder, detector=detector), template=template, kept_files=kept)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the tokenizer files, the chat template and the kept files; other files of the folder stay."""
        template = {TEMPLATE_FILE: self.template.source.encode("utf-8")}
        write_files(Path(folder), {**self.tokenizer.files.raw, **self._kept_files, **template})

    def render(
        self,
        messages: Messages,
        *,
        tools: Tools = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
    ) -> str:
        """The conversation as the model reads it. Ids come from `encode_chat`, which knows more than this text.

        Args:
            messages: records or OpenAI-style dictionaries.
            tools: function descriptions for the system turn.
            add_generation_prompt: whether to end with the beginning of an assistant turn.
            enable_thinking: False begins that turn with an empty `<think></think>`; None leaves it to the template,
                and the released one thinks.

        Raises:
            InputError: a malformed message, named by its position.
        """
        return self.template.render(
            messages, tools=tools, add_generation_prompt=add_generation_prompt, enable_thinking=enable_thinking
        ).text

    def encode_chat(
        self,
        messages: Messages,
        *,
        tools: Tools = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        allow_control_tokens: bool = True,
    ) -> list[int]:
        """The ids of a conversation.

        Args:
            messages, tools, add_generation_prompt, enable_thinking: as in `render`.
            allow_control_tokens: True is the behaviour of the release, in which a `<|im_end|>` in a message ends the
                turn. Servers pass False: only the template writes control tokens.

        Raises:
            InputError: a malformed message, named by its position.
        """
        rendered = self.template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=enable_thinking,
            control_tokens=None if allow_control_tokens else self.tokenizer.control_tokens,
        )
        return self.tokenizer.encode(rendered.text, literal_spans=rendered.literal_spans)

    def encode_training_chat(
        self, messages: Messages, *, tools: Tools = None, allow_control_tokens: bool = True
    ) -> tuple[list[int], list[bool]]:
        """The ids of a finished conversation, and True for those that the assistant wrote, `<|im_end|>` included.

        Raises:
            InputError: a malformed message, or a template without generation tags.
        """
        if not self.template.marks_assistant:
            raise InputError(
                f"{TEMPLATE_FILE} has no {{% generation %}} tags: it does not say what the assistant wrote"
            )
        rendered = self.template.render(
            messages, tools=tools, control_tokens=None if allow_control_tokens else self.tokenizer.control_tokens
        )
        ids: list[int] = []
        learned: list[bool] = []
        spans = deque(rendered.literal_spans)
        for start, end, by_assistant in _turns(rendered):
            literal: list[tuple[int, int]] = []
            while spans and spans[0][0] < end:
                a, b = spans.popleft()
                literal.append((a - start, b - start))
            ids += self.tokenizer.encode(rendered.text[start:end], literal_spans=literal)
            learned += [by_assistant] * (len(ids) - len(learned))
        return ids, learned


def _turns(rendered: Rendered) -> Iterator[tuple[int, int, bool]]:
    """The text cut where the assistant begins and ends."""
    position = 0
    for start, end in rendered.assistant_spans:
        yield position, start, False
        yield start, end, True
        position = end
    yield position, len(rendered.text), False
