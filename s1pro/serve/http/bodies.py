"""Bodies of requests, as clients send them.

Types are strict (a number in quotes is an error), unknown fields are ignored, and `null` is the same as leaving a field
out: clients of many ages send both. Ranges that a type cannot say are checked where the field is used.

The first wrong entry of a list ends its check: a million of them would otherwise become a million messages of errors.

Known fields whose meaning this server cannot keep (`refused`) are errors: a client that asks for the best of three
answers, or describes its functions in the form of years ago, must not take silence for consent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

MAX_BIASES = 4096


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise ValueError(f"more than {MAX_BIASES} entries")
    return value


def _one_of(forms: str) -> WrapValidator:
    """One message for a field of several forms: pydantic's own speaks of the first form alone."""

    def check(value: Any, validate: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"must be {forms}") from error

    return WrapValidator(check)


class Refused(ValueError):
    """A field that this server cannot honour."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is not supported by this server")
        self.field = field


class _FailFast(FailFast):
    """Hashable, as members of unions must be before Python 3.12."""

    def __hash__(self) -> int:
        return id(self)


FIRST = _FailFast()
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], FIRST]
Texts = Annotated[list[str], FIRST]
Objects = Annotated[list[dict[str, Any]], FIRST]
Biases = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_few)]
Stops = Annotated[str | Texts | None, _one_of("a text or a list of texts")]
ToolChoice = Annotated[str | dict[str, Any] | None, _one_of("auto, none, required, or an object that names a function")]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


class Body(BaseModel):
    """Strict, and deaf to what it does not know.

    Attributes:
        refused: fields that would change the answer but are not supported, with the values that mean "off".
    """

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _keeps_its_word(cls, given: Any) -> Any:
        for name, off in cls.refused.items() if isinstance(given, dict) else ():
            if given.get(name) is not None and given[name] not in off:
                raise Refused(name)
        return given


class SamplingBody(Body):
    """How tokens are drawn; shared by all routes that generate."""

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Biases | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stops = None
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_new_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stream: bool | None = None
    regex: str | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None
    request_id: Annotated[str, Field(max_length=128)] | None = None
    return_token_ids: bool | None = None
    return_routed_experts: bool | None = None


class StreamOptions(Body):
    include_usage: bool | None = None


class JsonSchema(Body):
    name: str | None = None
    schema_: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema", "regex_schema"] = "text"
    json_schema: JsonSchema | None = None
    regex_schema: str | None = None


class ChatMessage(Body):
    """Content may be text, parts, null or missing."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | Objects | None, _one_of("a text or a list of parts, which are objects")] = None
    reasoning_content: str | None = None
    tool_calls: Objects | None = None
    tool_call_id: str | None = None


class Function(Body):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Body):
    type: Literal["function"] = "function"
    function: Function


Messages = Annotated[list[ChatMessage], FIRST]
Tools = Annotated[list[Tool], FIRST]


class ChatBody(SamplingBody):
    """`POST /v1/chat/completions`."""

    refused = {"functions": ([],), "function_call": ("none",), "modalities": (["text"],), "audio": ()}

    messages: Annotated[Messages, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    enable_thinking: bool | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionBody(SamplingBody):
    """`POST /v1/completions`."""

    refused = {"best_of": (1,), "suffix": ("",)}

    prompt: Annotated[
        str | Texts | TokenIds | Annotated[list[TokenIds], FIRST],
        _one_of("a text, a list of texts, a list of token ids (whole numbers from 0), or a list of such lists"),
    ]
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    response_format: ResponseFormat | None = None


class GenerateBody(SamplingBody):
    """`POST /generate`: tokens in, tokens out."""

    input_ids: TokenIds | None = None
    prompt: str | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    max_new_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    return_logprob: bool | None = None
    return_prompt_logprob: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class ResponsesTool(Body):
    """Functions lie flat here."""

    type: str
    name: FunctionName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ResponsesTextFormat(Body):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    name: str | None = None


class ResponsesText(Body):
    format: ResponsesTextFormat | None = None


class ResponsesReasoning(Body):
    effort: Effort | None = None


class ResponsesBody(SamplingBody):
    """`POST /v1/responses`."""

    refused = {"background": (False,), "conversation": (), "prompt": ()}

    input: Annotated[str | Objects, _one_of("a text or a list of items, which are objects")]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    tools: Annotated[list[ResponsesTool], FIRST] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    text: ResponsesText | None = None
    reasoning: ResponsesReasoning | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Texts | None = None
    metadata: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None


class TokenizeBody(Body):
    """`POST /tokenize`: `prompt`, or `messages` through the chat template."""

    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    enable_thinking: bool | None = None


class DetokenizeBody(Body):
    """`POST /detokenize`."""

    tokens: TokenIds
    skip_special_tokens: bool | None = None


class WeightsBody(Body):
    """`POST /update_weights` with JSON; the other form is a safetensors body."""

    folder: str
    version: Annotated[int, Field(ge=0, lt=2**63)]


class AbortBody(Body):
    """`POST /abort_request`."""

    request_id: str | None = None
    abort_all: bool | None = None
