"""The processor of a model folder: tokenizer, chat template and the preparation of media under one name.

    render            conversation -> text
    encode            conversation -> ids and media, for prompts
    encode_training   the same, and which ids the assistant wrote, for the loss
    processor(...)    conversations or texts -> padded arrays for the transformers class

Prompts are encoded as one text, exactly as the release does. A training conversation is encoded piece by piece, cut
where the assistant begins and ends: that is where generation begins in service, so no token may reach across. The two
give the same ids unless an earlier answer begins with a line end, or a turn leaves a science tag open: in one text the
tag also rules the turns after it.

The same object serves training, service and evaluation, so a picture or signal becomes the same tokens everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.media import Media
from s1pro.base.records import Message
from s1pro.inputs.call_arguments import Messages, conversations_of, media_list, texts_of, with_setting
from s1pro.inputs.chat import (
    MAX_TEMPLATE_BYTES,
    TEMPLATE_FILE,
    ChatTemplate,
    Rendered,
    checked_messages,
    default_template,
)
from s1pro.inputs.detect import Detector
from s1pro.inputs.expansion import PLACEHOLDERS, expand_ids, expand_text
from s1pro.inputs.files import named, parse_text, read_file, write_files
from s1pro.inputs.media_files import MEDIA_FILES, media_files, read_preparation
from s1pro.inputs.media_parts import (
    MediaItem,
    MediaLimits,
    Preparation,
    Values,
    join_items,
    media_parts,
    prepare_part,
    without_sources,
)
from s1pro.inputs.padding import ModelInputs, pad_batch
from s1pro.inputs.tokenizer import Tokenizer
from s1pro.inputs.turns import turns

Tools = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A conversation as the network takes it.

    Attributes:
        token_ids: placeholders included, one per row that the media become.
        learned: which of them the assistant wrote, `<|im_end|>` included; empty for prompts.
        media: images, videos and signals in the order of their placeholders; None without.
        media_parts: the parts that they were read from, for `Processor.read_media`.
    """

    token_ids: list[int]
    learned: list[bool]
    media: Media[Values] | None
    media_parts: tuple[dict[str, Any], ...]


class Processor:
    """See the module docstring.

    Args:
        tokenizer: of the model.
        template: chat template; default the released one.
        preparation: of images, videos and signals; default as released.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, template: ChatTemplate | None = None, preparation: Preparation | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template or default_template()
        self.preparation = preparation or Preparation()
        self._media_files = media_files(self.preparation)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, detector: Detector = "rules") -> Processor:
        """Reads a model or tokenizer folder. Without `chat_template.jinja` the released template is used, without files
        of settings for images, videos or signals the released settings.

        Raises:
            InputError: a file is missing or wrong; the message names it.
            MissingExtraError: `detector="rdkit"` without RDKit.
        """
        folder = Path(folder)
        template = None
        with named(folder):
            if (folder / TEMPLATE_FILE).exists():
                data = read_file(folder, TEMPLATE_FILE, max_bytes=MAX_TEMPLATE_BYTES)
                template = ChatTemplate(parse_text(data, TEMPLATE_FILE))
            kept = {name: read_file(folder, name) for name in MEDIA_FILES if (folder / name).exists()}
            tokenizer = Tokenizer.from_pretrained(folder, detector=detector)
            processor = cls(tokenizer, template=template, preparation=read_preparation(kept))
        processor._media_files |= kept
        return processor

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the tokenizer files, the chat template and the settings of media; other files of the folder stay."""
        template = {TEMPLATE_FILE: self.template.source.encode("utf-8")}
        write_files(Path(folder), {**self.tokenizer.files.raw, **self._media_files, **template})

    def render(
        self,
        messages: Messages,
        *,
        tools: Tools = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
    ) -> str:
        """The conversation as text, with one sign per medium. Ids come from `encode`, which knows more than this text.

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

    def encode(
        self,
        messages: Messages,
        *,
        tools: Tools = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
        allow_control_tokens: bool = True,
        base: Path | None = None,
        limits: MediaLimits | None = None,
    ) -> Encoded:
        """Ids and media of a conversation.

        Args:
            messages, tools, add_generation_prompt, enable_thinking: as in `render`.
            allow_control_tokens: True is the behaviour of the release, in which a `<|im_end|>` in a message ends the
                turn. Servers pass False: only the template writes control tokens.
            base: where relative paths of media begin.
            limits: of the sources of media. Servers pass some with `allow_paths=False`.

        Raises:
            InputError: a malformed message, or a medium that cannot be read; named by its position.
        """
        plain, parts, items = self._read(messages, base, limits)
        rendered = self.template.render(
            plain,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=enable_thinking,
            control_tokens=None if allow_control_tokens else self.tokenizer.control_tokens,
        )
        return self._encoded(expand_text(rendered, items), items, parts)

    def encode_next(
        self, messages: Messages, *, enable_thinking: bool | None = None, allow_control_tokens: bool = True
    ) -> list[int]:
        """Ids that follow an assistant turn whose last token is `<|im_end|>`: these messages, and the beginning of the
        next assistant turn. What came before stays as it was sampled; it is neither rendered nor encoded again.

        Args:
            messages: of tools or of the user, text only.

        Raises:
            InputError: as `render`, or a template without generation tags.
        """
        if not self.template.marks_assistant:
            raise InputError(f"{TEMPLATE_FILE} has no {{% generation %}} tags: it does not say where a turn ends")
        control = None if allow_control_tokens else self.tokenizer.control_tokens
        before = [Message(role="user", content=""), Message(role="assistant", content="")]
        rendered = self.template.render(
            [*before, *messages],
            add_generation_prompt=True,
            enable_thinking=enable_thinking,
            control_tokens=control,
        )
        start = rendered.assistant_spans[0][1]
        literal = [(a - start, b - start) for a, b in rendered.literal_spans if a >= start]
        return self.tokenizer.encode(rendered.text[start:], literal_spans=literal)

    def encode_training(
        self,
        messages: Messages,
        *,
        tools: Tools = None,
        allow_control_tokens: bool = True,
        base: Path | None = None,
    ) -> Encoded:
        """Ids and media of a finished conversation, and which ids the assistant wrote.

        Raises:
            InputError: as in `encode`, or a template without generation tags.
        """
        plain, parts, items = self._read(messages, base)
        rendered = expand_text(self._finished(plain, tools, allow_control_tokens), items)
        ids, learned = self._ids_and_learned(rendered)
        index = self._index(ids, items)
        return Encoded(
            token_ids=[ids[i] for i in index],
            learned=[learned[i] for i in index],
            media=join_items(items),
            media_parts=parts,
        )

    def encode_training_chat(
        self, messages: Messages, *, tools: Tools = None, allow_control_tokens: bool = True
    ) -> tuple[list[int], list[bool]]:
        """What `encode_training` gives for the conversation with one placeholder per medium; media are not read."""
        return self._ids_and_learned(self._finished(messages, tools, allow_control_tokens))

    def encode_chat(self, messages: Messages, **options: Any) -> list[int]:
        """The ids that `encode` gives for the conversation with one placeholder per medium; media are not read.

        Args:
            options: `tools`, `add_generation_prompt`, `enable_thinking`, `allow_control_tokens` as in `encode`.
        """
        allow = options.pop("allow_control_tokens", True)
        control = None if allow else self.tokenizer.control_tokens
        rendered = self.template.render(messages, control_tokens=control, **options)
        return self.tokenizer.encode(rendered.text, literal_spans=rendered.literal_spans)

    def encode_text(self, text: str, items: Sequence[MediaItem]) -> Encoded:
        """Ids of a text that holds a sign for every medium, as `render` writes them."""
        rendered = Rendered(text=text, assistant_spans=(), literal_spans=())
        return self._encoded(expand_text(rendered, items), items, ())

    def read_media(self, parts: Sequence[Mapping[str, Any]]) -> Media[Values] | None:
        """Reads the media of `Encoded.media_parts` (again)."""
        return join_items([prepare_part(part, self.preparation) for part in parts])

    def __call__(
        self,
        conversations: Messages | Sequence[Messages] | None = None,
        *,
        text: str | Sequence[str] | None = None,
        images: Any = (),
        videos: Any = (),
        time_series: Any = (),
        sampling_rate: float | Sequence[float | None] | None = None,
        fps: float | Sequence[float | None] | None = None,
        add_generation_prompt: bool = True,
        enable_thinking: bool | None = None,
        tools: Tools = None,
        padding_side: str = "left",
    ) -> ModelInputs:
        """Arrays for `S1ProForConditionalGeneration`: `model.generate(**processor(messages))`.

        Args:
            conversations: one conversation or a list of them, with their media inside; or
            text: one text or a list of them that hold signs, with
            images, videos, time_series: their media, one or a list in order; `sampling_rate` (Hz) and `fps` for all or
                each.
            add_generation_prompt, enable_thinking, tools: as in `render`, for conversations.
            padding_side: "left" for generation, "right" for training.

        Raises:
            InputError: nothing or too much was given, or something of it is wrong.
        """
        if (conversations is None) == (text is None):
            raise InputError("give conversations, or text with its media")
        images, videos, time_series = media_list(images, 3), media_list(videos, 4), media_list(time_series, 2)
        if conversations is None:
            assert text is not None
            items = [
                *(self._item({"type": "image", "image": image}) for image in images),
                *(self._item({"type": "video", "video": v, "fps": f}) for v, f in with_setting(videos, fps, "fps")),
                *(
                    self._item({"type": "time_series", "time_series": s, "sampling_rate": rate})
                    for s, rate in with_setting(time_series, sampling_rate, "sampling_rate")
                ),
            ]
            encoded = self._encode_texts(texts_of(text), items)
        else:
            if images or videos or time_series:
                raise InputError("put the media of conversations into their messages")
            encoded = [
                self.encode(
                    one, tools=tools, add_generation_prompt=add_generation_prompt, enable_thinking=enable_thinking
                )
                for one in conversations_of(conversations)
            ]
        rows = [one.token_ids for one in encoded]
        media = [one.media for one in encoded if one.media is not None]
        return pad_batch(rows, media, pad_id=self.tokenizer.pad_token_id, side=padding_side)

    def _finished(self, messages: Messages, tools: Tools, allow_control_tokens: bool) -> Rendered:
        """A conversation for training as text."""
        if not self.template.marks_assistant:
            raise InputError(
                f"{TEMPLATE_FILE} has no {{% generation %}} tags: it does not say what the assistant wrote"
            )
        control = None if allow_control_tokens else self.tokenizer.control_tokens
        return self.template.render(messages, tools=tools, control_tokens=control)

    def _ids_and_learned(self, rendered: Rendered) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        learned: list[bool] = []
        for text, literal, by_assistant in turns(rendered):
            ids += self.tokenizer.encode(text, literal_spans=literal)
            learned += [by_assistant] * (len(ids) - len(learned))
        return ids, learned

    def _item(self, part: Mapping[str, Any]) -> MediaItem:
        [checked] = media_parts([{"content": [part]}])
        return prepare_part({**checked, "where": part["type"]}, self.preparation)

    def _encode_texts(self, texts: Sequence[str], items: Sequence[MediaItem]) -> list[Encoded]:
        """Each text takes as many media of a kind as it has signs."""
        waiting = {kind: deque(item for item in items if item.kind == kind) for kind in PLACEHOLDERS}
        encoded = []
        for text in texts:
            own = [
                waiting[kind].popleft()
                for kind, token in PLACEHOLDERS.items()
                for _ in range(min(text.count(token), len(waiting[kind])))
            ]
            encoded.append(self.encode_text(text, own))
        left = [kind for kind, rest in waiting.items() if rest]
        if left:
            raise InputError(f"there are more media of type {left[0]!r} than {PLACEHOLDERS[left[0]]} in the text")
        return encoded

    def _read(
        self, messages: Messages, base: Path | None, limits: MediaLimits | None = None
    ) -> tuple[list[dict[str, Any]], tuple[dict[str, Any], ...], list[MediaItem]]:
        """Messages for the template, media parts, and what they hold."""
        plain = checked_messages(messages)
        parts = media_parts(plain)
        items = [prepare_part(part, self.preparation, base=base, limits=limits) for part in parts]
        return [without_sources(message) for message in plain], parts, items

    def _encoded(self, rendered: Rendered, items: Sequence[MediaItem], parts: tuple[dict[str, Any], ...]) -> Encoded:
        ids = self.tokenizer.encode(rendered.text, literal_spans=rendered.literal_spans)
        token_ids = [ids[i] for i in self._index(ids, items)]
        return Encoded(token_ids=token_ids, learned=[], media=join_items(items), media_parts=parts)

    def _index(self, ids: Sequence[int], items: Sequence[MediaItem]) -> Sequence[int]:
        if not items:
            return range(len(ids))
        tokens = {kind: self._token_id(token) for kind, token in PLACEHOLDERS.items()}
        return expand_ids(ids, items, tokens)

    def _token_id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise InputError(f"this tokenizer has no {token}, so its model cannot take media")
        return found
