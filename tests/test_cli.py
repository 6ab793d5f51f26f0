from __future__ import annotations

import errno
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointError
from s1pro.cli import COMMANDS, main, parser

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[1]
CORPUS = ("build", "media", "ingest", "retry", "status", "caption", "export", "view", "narrative")
NAMES = (
    "demo",
    "corpus",
    "data",
    "train",
    "eval",
    "lm-eval",
    "chat",
    "serve",
    "convert",
    "expand",
    "plan",
    "rl",
    "parity",
    "claims",
    "report",
)


@pytest.fixture
def s1pro(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse: --help, unknown arguments
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from s1pro.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'rdkit', 'rich', 'pyarrow', 'jinja2', 'matplotlib'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED []\n")
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line[4] != " "]
    assert tuple(name for name in listed if name != "COMMAND") == NAMES
    assert "130 interrupted" in done.stdout


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "s1pro", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("s1pro ")


@pytest.mark.parametrize(
    "command",
    [
        *([name] for name in NAMES),
        ["data", "inspect"],
        ["data", "fetch"],
        *(["corpus", name] for name in CORPUS),
        *(["claims", name] for name in ("list", "run", "report")),
    ],
)
def test_every_command_has_help_with_exit_codes(s1pro: Run, command: list[str]) -> None:
    code, out, err = s1pro(*command, "--help")
    assert (code, err) == (0, "")
    assert "usage: s1pro " + command[0] in out
    if command not in (["data"], ["corpus"], ["claims"]):
        assert "Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted." in " ".join(out.split())


def test_every_command_is_announced() -> None:
    listed = {line.split()[0] for line in parser().format_help().splitlines() if line.startswith("    ")}
    assert len(COMMANDS) == len(NAMES) and set(NAMES) <= listed


def test_help_names_only_defaults_that_say_something(s1pro: Run) -> None:
    for command in (["eval"], ["expand"], ["train"], ["parity"], ["corpus", "ingest"]):
        _, out, _ = s1pro(*command, "--help")
        text = " ".join(out.split())
        assert "(default: None)" not in text and "(default: False)" not in text and "(default: [])" not in text
        assert ") (default" not in text
    _, out, _ = s1pro("parity", "--help")
    assert "largest KL(engine || trainer) that passes (default: 1e-06)" in " ".join(out.split())


def commands_of(document: Path) -> list[tuple[str, bool]]:
    """What a page tells its readers to type after `s1pro`, and whether it is whole: text may leave arguments out."""
    text = document.read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        found += [(m[1], True) for m in map(re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*bin/)?s1pro (.+)").match, lines) if m]
    found += [(rest, False) for rest in re.findall(r"`(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?s1pro (-*[a-z][^`\n]*)`", text)]
    return found


DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if commands_of(path)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_commands_in_the_documents_are_commands(capsys: pytest.CaptureFixture[str], document: Path) -> None:
    for command, whole in commands_of(document):
        words = shlex.split(command, comments=True)
        words = words[: next((i for i, word in enumerate(words) if word in ("|", "&&", ">", ";")), len(words))]
        try:
            parser().parse_args(words)
        except SystemExit as stop:  # --help, or an error
            error = capsys.readouterr().err
            missing = "arguments are required" in error or "expected at least one argument" in error
            assert not stop.code or (missing and not whole), f"s1pro {command}: {error}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["eval"], "required: FOLDER"),
        (["eval", "DIR", "--limit", "0"], "whole number of at least 1, got '0'"),
        (["eval", "DIR", "--limit", "few"], "whole number of at least 1, got 'few'"),
        (["eval", "DIR/none"], "DIR/none: there is no such folder"),
        (["eval", "DIR/empty"], "it has no config.json"),
        (["eval", "DIR/fake", "--reference", "DIR/empty"], "it has no config.json"),
        (["eval", "DIR/fake", "--tasks", "no_such_task"], "known: formula_from_name"),
        (["eval", "DIR", "--temperature", "-1"], "temperature must be finite and not negative"),
        (["eval", "DIR/fake", "--reference", "DIR/fake"], "the model itself"),
        (["chat", "DIR/none"], "DIR/none: there is no such folder"),
        (["chat", "DIR/run.json"], "DIR/run.json: this is a file, not a folder"),
        (["convert", "DIR/run.json", "DIR/new"], "DIR/run.json: this is a file, not a folder"),
        (["chat", "DIR", "--json"], "--json needs --message"),
        (["chat", "DIR", "--top-p", "0"], "top_p must be in (0, 1]"),
        (["serve", "DIR/none"], "DIR/none: there is no such folder"),
        (["serve", "DIR/fake", "--port", "99999"], "a whole number from 0 to 65535, got '99999'"),
        (["serve", "DIR/fake", "--draft-tokens", "-1"], "a whole number of at least 0, got '-1'"),
        (["serve", "DIR/fake", "--host", ""], "--host is empty"),
        (["serve", "DIR/fake", "--max-context", "1"], "--max-context 1 must lie between 2 and the 32768 slots"),
        (["serve", "DIR/fake", "--max-batch", "3000"], "--max-batch 3000 is more than the 2048 tokens of a step"),
        (["serve", "DIR/fake", "--weights-root", "DIR"], "--weights-root has no effect without --control"),
        (["serve", "DIR/fake", "--allow-private-media"], "no effect without --allowed-media-domains"),
        (["serve", "DIR/fake", "--allowed-media-path", "DIR/none"], "there is no folder DIR/none"),
        (["serve", "DIR/fake", "--api-key-file", "DIR/none"], "DIR/none: No such file or directory"),
        (["serve", "DIR/fake", "--api-key-file", "DIR/bytes"], "DIR/bytes is not text in UTF-8"),
        (["convert", "DIR/none", "DIR/new"], "DIR/none: there is no such folder"),
        (["convert", "DIR/fake", "DIR/fake"], "exists already"),
        (["convert", "DIR/empty", "DIR/new"], "it has no config.json"),
        (["convert", "DIR/fake", "DIR/new"], "config.json"),
        (["convert", "DIR", "DIR/new", "--scale-format", "ue8m0"], "no effect without --fp8"),
        (["expand", "DIR/none", "DIR/new"], "DIR/none: there is no such folder"),
        (["expand", "DIR/fake", "DIR/fake"], "exists already"),
        (["expand", "DIR/fake", "DIR/new"], "model_type is None"),
        (["expand", "DIR/fake", "DIR/new", "--noise", "0"], "use 0.02"),
        (["expand", "DIR/fake", "DIR/new", "--layout", "fused", "--fp8"], "cannot be stored in FP8"),
        (["expand", "DIR/fake", "DIR/new", "--tokenizer", "DIR"], "no effect without data"),
        (["data", "inspect", "DIR/none.jsonl", "--tokenizer", "DIR"], "DIR"),
        (["corpus", "build", "DIR/corpus", "--set", "questionz=3"], "there is no such setting"),
        (["corpus", "build", "DIR/corpus", "--set", "limit=3"], "load more molecules"),
        (["corpus", "media", "DIR/media", "--set", "counts.smell=3"], "no such family: smell; known: formula_in"),
        (["corpus", "media", "DIR/media", "--set", "media.pixels=3"], "there is no such setting"),
        (["corpus", "media", "DIR/media", "--molecules", "DIR/none.parquet"], "DIR/none.parquet"),
        (["eval", "DIR", "--modalities", "smell"], "invalid choice: 'smell'"),
        (["train", "--recipe", "DIR/none.json"], "there is no such file"),
        (["train", "--recipe", "DIR/broken.json"], "not JSON"),
        (["train", "--recipe", "DIR/empty.json"], "missing folder"),
        (["train", "--recipe", "DIR/run.json", "--set", "steps"], "path=value"),
        (["train", "--recipe", "DIR/run.json", "--set", "stepz=3"], "there is no such setting"),
        (["train", "--recipe", "DIR/run.json", "--set", "steps=many"], "steps"),
        (["train", "--recipe", "DIR/run.json", "--set", "steps=0"], "steps must be at least 1"),
        (["train", "--recipe", "no-such-recipe"], "there is no recipe 'no-such-recipe'"),
        (["plan", "--model", "gpt"], "there is no preset 'gpt' and no such folder"),
        (["plan", "--model", "DIR/empty"], "it has no config.json"),
        (["plan", "--model", "tiny", "--gpu", "h300"], "choose from a100"),
        (["plan", "--model", "tiny", "--gpus", "12"], "no multiple of gpus_per_node"),
        (["plan", "--model", "tiny", "--gpus", "8", "--ep", "3"], "leave a setting to the search"),
        (["plan", "--model", "tiny", "--cluster", "DIR/broken.json"], "not JSON"),
        (["plan", "--model", "tiny", "--cluster", "DIR/empty.json"], "missing gpu"),
        (["plan", "--model", "tiny", "--tokens", "0"], "total_tokens must be at least 1"),
        (["plan", "--model", "tiny", "--tokens", "nan"], "total_tokens must be at least 1, got nan"),
        (["plan", "--model", "tiny", "--cluster", "DIR/deep.json"], "not JSON"),
        (["plan", "--model", "tiny", "--cluster", "DIR/none.json"], "there is no such file"),
        (["plan", "--model", "tiny", "--report", "DIR/empty"], "is a folder; name a file, for example DIR/empty/page"),
        (["parity", "DIR", "--report", "DIR/empty"], "is a folder; name a file"),
        (["parity", "DIR/fake", "--limit", "nan"], "--limit must be a number from 0, got nan"),
        (["parity", "DIR/fake", "--api-key-variable", "KEY"], "no effect without --url"),
        (
            ["eval", "--url", "http://[::1", "--model", "m"],
            "--url must be like http://localhost:8000/v1, got 'http://[::1'",
        ),
        (["eval", "--url", "http://a/v1", "--model", "m", "--judge-url", "x"], "--judge-url must be like http://"),
        (["eval", "--url", "http://a/v1", "--model", "m", "--timeout", "0"], "--timeout must be positive, got 0"),
        (["parity", "DIR/fake", "--url", "there"], "--url must be like http://localhost:8000/v1, got 'there'"),
        (["rl", "--recipe", "DIR/deep.json"], "not JSON"),
        (["rl", "--recipe", "DIR/empty.json"], "DIR/empty.json: missing folder"),
        (["rl", "--model", "DIR/fake", "--tasks", "arithmetic", "--set", "rollout.top_p=2"], "top_p must be in (0, 1]"),
        (
            ["rl", "--model", "DIR/fake", "--tasks", "arithmetic", "--set", "data.tokens_per_batch=1"],
            "must not exceed data.tokens_per_batch=1",
        ),
        (["rl", "--model", "DIR/fake", "--tasks", "arithmetic", "--set", "optimizer.lr=1e400"], "positive and finite"),
        (["rl", "--model", "DIR/fake", "--tasks", "arithmetic", "--set", "judges.seconds=nan"], "must be positive"),
        (["train", "--recipe", "DIR/deep.json"], "not JSON"),
        (["claims", "run", "all", "balance"], "all stands for every claim"),
        (["plan", "--model", "tiny", "--set", "steps=3"], "job.NAME=VALUE"),
        (["plan", "--model", "tiny", "--set", "job.stepz=3"], "there is no such setting"),
        (["plan", "--model", "tiny", "--set", "efficiency.network=2"], "efficiency.network must lie in"),
        (["plan", "--model", "tiny", "--recipe", "serve", "--ep", "2"], "only --serving-ranks has an effect"),
        (["plan", "--model", "tiny", "--serving-ranks", "2"], "no effect with --recipe pretrain"),
        (["plan", "--model", "tiny", "--recipe", "serve", "--gpus", "8", "--verify"], "nothing is trained"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_code_2(s1pro: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    for name in ("empty", "fake"):
        (tmp_path / name).mkdir()
    (tmp_path / "fake" / "config.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "run.json").write_text(json.dumps({"folder": str(tmp_path / "run")}))
    code, out, err = s1pro(*(argument.replace("DIR", str(tmp_path)) for argument in arguments))
    assert code == 2
    assert out == ""
    assert message.replace("DIR", str(tmp_path)) in err
    assert "Traceback" not in err
    assert err.count("error: ") == 1


def test_show_prints_the_changed_configuration(s1pro: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"folder": "runs/x", "steps": 7}))
    code, out, _ = s1pro(
        "train", "--recipe", tmp_path / "run.json", "--folder", tmp_path, "--set", "schedule.warmup=0.1", "--show"
    )
    config = json.loads(out)
    assert code == 0
    assert (config["steps"], config["folder"]) == (7, str(tmp_path))


def test_interrupts_end_with_130(s1pro: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*unused: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("s1pro.serve.client.LocalClient.from_folder", interrupted)
    (tmp_path / "config.json").touch()
    code, _, err = s1pro("chat", tmp_path)
    assert (code, err) == (130, "interrupted\n")


class SafetensorError(Exception):
    """Named like the one of safetensors, which has no error number."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "No space left on device", "model/x"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_code_2(
    s1pro: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def full(*unused: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr("s1pro.serve.client.LocalClient.from_folder", full)
    (tmp_path / "config.json").touch()
    code, _, err = s1pro("chat", tmp_path)
    assert (code, err) == (2, "error: the disk is full; make room and give the same command again\n")


def test_errors_that_are_not_the_users_keep_their_traceback(
    s1pro: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*unused: object, **settings: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("s1pro.serve.client.LocalClient.from_folder", broken)
    (tmp_path / "config.json").touch()
    with pytest.raises(OSError, match="Input/output"):
        s1pro("chat", tmp_path)


def test_parity_names_an_endpoint_that_does_not_answer(
    s1pro: Run, monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    async def refused(*unused: object) -> None:
        raise EndpointError("nobody there", kind="connection", attempts=6)

    monkeypatch.setattr("s1pro.rl.parity.probes.collect", refused)
    code, _, err = s1pro("parity", model_folder, "--url", "http://127.0.0.1:1/v1", "--engine", "vllm")
    assert code == 2
    assert err == "error: --url http://127.0.0.1:1/v1, --engine vllm: nobody there; does this server run there?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "MODEL", "--message", "hi", "--device", "tpu"], "device='tpu' is not a device; use cpu or cuda"),
        (["chat", "MODEL", "--message", "hi", "--device", "cuda:99"], "GPUs here; use cpu"),
        (["serve", "MODEL", "--port", "0", "--device", "tpu"], "device='tpu' is not a device; use cpu or cuda"),
        (
            ["serve", "MODEL", "--port", "0", "--cache-tokens", "99999999999"],
            "99999999999 token slots (--cache-tokens)",
        ),
        (["parity", "MODEL", "--longest", "5000"], "--longest 5000 and --tokens 48: the model has 1024 positions"),
        (["serve", "MODEL", "--no-cuda-graphs"], "--no-cuda-graphs has no effect on a CPU"),
        (["parity", "MODEL", "--seed", "-1"], "seed must not be negative, got -1"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(s1pro: Run, model_folder: Path, arguments: list[str], message: str) -> None:
    code, out, err = s1pro(*(argument.replace("MODEL", str(model_folder)) for argument in arguments))
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_plan_that_fits_and_one_that_does_not(s1pro: Run, tmp_path: Path) -> None:
    code, out, err = s1pro("plan", "--model", "intern-s1-pro", "--gpus", "64")
    assert (code, err) == (1, "")
    assert "does not fit" in out and "229 GB of parameters" in out and "Next thing to change: 176 GPUs" in out
    cluster = {"gpu": "h200", "num_gpus": 256, "network_gb_per_s": 100.0}
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    arguments = ("--cluster", tmp_path / "cluster.json", "--recipe", "rl", "--report", tmp_path / "plan.html", "--json")
    code, out, err = s1pro("plan", "--model", "intern-s1-pro", *arguments)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["feasible"] and found["cluster"]["network_gb_per_s"] == 100.0 and found["verification"] is None
    assert found["peak_bytes_per_rank"] <= found["usable_bytes_per_rank"]
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<svg") == 2 and found["reason"] in page


def test_list_tasks(s1pro: Run) -> None:
    code, out, _ = s1pro("eval", "--list-tasks")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["formula_from_name", "chemistry", "text"] in lines and ["digit_in_scan", "pictures", "image"] in lines


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained model with a tokenizer of its own."""
    from s1pro.checkpoint.released import save_network
    from s1pro.inputs.processor import Processor
    from s1pro.inputs.tokenizer_training import train_tokenizer
    from s1pro.model.network import Network
    from s1pro.model.presets import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    texts = ["How many carbon atoms does the molecule have? It has 3 of them."] * 4
    tokenizer = train_tokenizer(texts, smiles=["CCO", "CCN", "CCCC"], vocab_size=280, science_sizes={"SMILES": 8})
    save_network(Network(tiny(vocab_size=tokenizer.vocab_size)), folder)
    Processor(tokenizer).save_pretrained(folder)
    return folder


def test_eval_writes_answers_and_reports_intervals_and_baselines(
    s1pro: Run, model_folder: Path, tmp_path: Path
) -> None:
    arguments = ["eval", model_folder, "--tasks", "count_in_smiles", "--output", tmp_path, "--max-new-tokens", 8]
    code, out, _ = s1pro(*arguments, "--limit", 4, "--json")
    [result] = json.loads(out)
    assert code == 0
    assert result["task"] == "count_in_smiles"
    assert result["score"]["low"] <= result["score"]["value"] <= result["score"]["high"]
    assert set(result["baselines"]) >= {"constant", "copy"}
    assert len((tmp_path / "answers" / "count_in_smiles.jsonl").read_text().splitlines()) == 4
    code, out, _ = s1pro(*arguments, "--limit", 6)  # goes on, and shows a table
    assert code == 0
    assert "count_in_smiles" in out
    assert len((tmp_path / "answers" / "count_in_smiles.jsonl").read_text().splitlines()) == 6
    code, _, err = s1pro(*arguments, "--temperature", 0.5)
    assert code == 2
    assert "sampling.temperature: 0.0 there, 0.5 now" in err


@pytest.mark.parametrize("kind", ["weights", "tokenizer"])
def test_a_broken_model_is_named_before_questions_are_made(
    s1pro: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def too_early() -> None:
        raise AssertionError("molecules were read")

    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    file = broken / ("model.safetensors" if kind == "weights" else "vocab.json")
    file.write_bytes(file.read_bytes()[:50])
    monkeypatch.setattr("s1pro.tasks.registry.installed_molecules", too_early)
    for arguments in (["eval", broken], ["eval", model_folder, "--reference", broken]):
        code, out, err = s1pro(*arguments, "--tasks", "count_in_smiles")
        assert (code, out) == (2, "") and str(file) in err and err.count("\n") == 1


def test_chat_answers_one_message(s1pro: Run, model_folder: Path) -> None:
    arguments = ["chat", model_folder, "--message", "How many atoms?", "--max-new-tokens", 5]
    code, out, _ = s1pro(*arguments, "--json")
    answer = json.loads(out)
    assert code == 0
    assert 1 <= len(answer["token_ids"]) == len(answer["logprobs"]) <= 5
    code, out, _ = s1pro(*arguments)
    assert code == 0
    assert out == answer["text"] + "\n"


def test_chat_reads_lines_and_commands(s1pro: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/help\n/system Be brief.\nhello\n/reset\n/exit\nnever read\n"))
    code, out, err = s1pro("chat", model_folder, "--max-new-tokens", 4)
    assert (code, err) == (0, "")
    assert out.count("/system TEXT") == 2  # at the start and for /help


def test_chat_says_what_it_did_with_a_file(
    s1pro: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("v\n0\n1\n")
    lines = [
        f"/signal {tmp_path}/a.csv 10 mV",
        "/image two names.png",
        "/signal x 1 mV more",
        '/video "open',
        "/image no",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    code, out, err = s1pro("chat", model_folder)
    assert (code, err) == (0, "")
    shown = "".join(out.split())  # lines are wrapped
    for words in (
        "a.csv goes with the next question",
        "/image takes one file, got 'two names.png'",
        "/signal takes one file",
        "No closing quotation",
        "no: there is no such file",
    ):
        assert words.replace(" ", "") in shown


def test_chat_shows_reasoning_apart(s1pro: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def thoughtful(*_: Any) -> AsyncIterator[str]:
        for piece in ("first ", "this</th", "ink>\n\nSo ", "it is. </th"):
            yield piece

    monkeypatch.setattr("s1pro.serve.client.LocalClient.stream_chat", thoughtful)
    code, out, _ = s1pro("chat", model_folder, "--message", "hi", "--thinking")
    assert code == 0 and out == "first this\n\nSo it is. </th\n"


def test_a_model_cannot_steer_the_terminal(s1pro: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hostile(*_: Any) -> AsyncIterator[str]:
        for piece in ("a\x1b]0;title\x07", "b\x9b2J\rc\x7f", "d\ne"):
            yield piece

    monkeypatch.setattr("s1pro.serve.client.LocalClient.stream_chat", hostile)
    code, out, _ = s1pro("chat", model_folder, "--message", "hi")
    assert code == 0 and out == "a\ufffd]0;title\ufffdb\ufffd2J\ufffdc\ufffdd\ne\n"


def test_convert_writes_an_equal_model(s1pro: Run, model_folder: Path, tmp_path: Path) -> None:
    code, out, _ = s1pro("convert", model_folder, tmp_path / "fused", "--layout", "fused", "--json")
    assert code == 0
    assert json.loads(out)["parameters"] > 100_000
    asked = ["--message", "How many?", "--max-new-tokens", 5, "--json"]
    assert s1pro("chat", tmp_path / "fused", *asked) == s1pro("chat", model_folder, *asked)
    code, out, _ = s1pro("convert", model_folder, tmp_path / "fp8", "--fp8", "--dtype", "bfloat16")
    assert code == 0
    assert "parameters" in out


def test_expand_and_its_report(s1pro: Run, model_folder: Path, tmp_path: Path) -> None:
    texts = [{"source": "t", "prompt_group": "general", "text": f"It has {n} carbon atoms. " * 9} for n in range(40)]
    data = tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps(text) + "\n" for text in texts))
    calibration = tmp_path / "calibration.safetensors"
    asked = ["--data", data, "--tokens-per-batch", 256, "--num-batches", 6]
    target = tmp_path / "expanded"
    code, out, err = s1pro(
        "expand", model_folder, target, *asked, "--save-calibration", calibration, "--shard-mb", 1, "--json"
    )
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert (record["before"]["num_experts"], record["after"]["num_experts"], record["after"]["top_k"]) == (8, 32, 8)
    assert record["settings"]["strategy"] == "fitted"
    assert record["mass_from"] == "held-out text"
    assert all(0.5 < layer["kept"] < 1.0001 for layer in record["mass"])
    assert record["held_out"]["kl"] > 0
    assert record["held_out"]["routers"]["0"]["group_load"] == [0.125] * 8
    assert record["copies"]["0"]["identical"] == 1.0  # experts; router rows got noise
    assert record["copies"]["0"]["router_distance"] > 0.01
    assert json.loads((target / "expansion.json").read_text()) == record
    page = (target / "expansion.html").read_text()
    assert "Routing mass" in page and "Copies" in page
    assert s1pro("chat", target, "--message", "How many?", "--max-new-tokens", 3)[0] == 0
    code, out, _ = s1pro("expand", model_folder, tmp_path / "again", "--calibration", calibration, "--shard-mb", 1)
    assert code == 0
    assert "kept on calibration text" in out and str(tmp_path / "again" / "expansion.html") in out
    for name in ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"):
        if (target / name).exists():
            assert (target / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    code, _, err = s1pro("expand", model_folder, tmp_path / "b", "--strategy", "B")
    assert (code, "needs calibration" in err) == (2, True)
    assert not (tmp_path / "b").exists()


def test_corpus_build_writes_what_training_reads(s1pro: Run, tmp_path: Path) -> None:
    small = ["--set", "limit=300", "--set", "questions=100", "--set", "general_documents=20"]
    code, out, _ = s1pro("corpus", "build", tmp_path / "corpus", *small, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["files"]["questions/train"]["samples"] > 0
    assert (tmp_path / "corpus" / "descriptions" / "train.parquet").exists()
    code, out, err = s1pro("corpus", "build", tmp_path / "corpus", *small)  # nothing left to make
    assert (code, err) == (0, "")
    assert "questions/train" in out
    code, out, _ = s1pro("corpus", "build", tmp_path / "corpus", *small, "--show")
    assert json.loads(out)["limit"] == 300


def test_corpus_media_writes_conversations_and_their_media(s1pro: Run, tmp_path: Path) -> None:
    code, out, _ = s1pro("corpus", "media", tmp_path, "--show")
    counts = json.loads(out)["counts"]
    assert code == 0 and "rhythm_in_ecg" in counts
    kept = ("digit_in_scan", "chirp_in_signal", "motion_in_video")
    small = [argument for name in counts for argument in ("--set", f"counts.{name}={3 if name in kept else 0}")]
    code, out, _ = s1pro("corpus", "media", tmp_path, *small, "--set", "validation=2", "--json")
    report = json.loads(out)
    assert code == 0 and len(report["files"]) == 6 and report["files"]["digit_in_scan/train"]["samples"] == 3
    assert len([path for path in (tmp_path / "media").rglob("*") if path.is_file()]) == 15
    code, out, err = s1pro("corpus", "media", tmp_path, *small, "--set", "validation=2")  # nothing left to make
    assert (code, err) == (0, "") and "chirp_in_signal/validation: 2 samples" in out


def test_data_inspect_shows_which_tokens_carry_loss(s1pro: Run, model_folder: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "It has 3."}]
    samples = [
        {"source": "a", "prompt_group": "science", "text": "the molecule"},
        {"source": "a", "prompt_group": "science", "messages": messages},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    arguments = [
        "data",
        "inspect",
        tmp_path / "x.jsonl",
        "--tokenizer",
        model_folder,
        "--tokens",
        128,
        "--max-length",
        64,
    ]
    code, out, _ = s1pro(*arguments, "--json")
    batch = json.loads(out)
    assert code == 0
    chats = [segment for segment in batch["segments"] if "<|im_start|>" in segment["tokens"][0]["text"]]
    learned = "".join(token["text"] for token in chats[0]["tokens"] if token["weight"] > 0)
    assert learned == "<think></think>\n\nIt has 3.<|im_end|>"
    code, out, _ = s1pro(*arguments)
    assert code == 0
    assert "masked tail" in out


def test_chat_with_a_file_that_cannot_be_read(s1pro: Run, model_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("t,v\n0,1\n1,x\n")
    asked = ["chat", model_folder, "--message", "What is it?", "--max-new-tokens", 3]
    code, _, err = s1pro(*asked, "--signal", table)
    assert code == 2 and "bad.csv: row 3: 'x' is no number" in err.replace("\n", "")
    code, _, err = s1pro(*asked, "--image", tmp_path / "gone.png")
    assert code == 2 and "gone.png: there is no such file" in err.replace("\n", "")
    code, _, err = s1pro(*asked, "--signal", f"{table},fast")
    assert code == 2 and "must be a number of hertz, got 'fast'" in err.replace("\n", "")
    table.write_text("v\n0\n1\n")
    code, _, err = s1pro(*asked, "--signal", f"{table},10,mV")
    assert code == 2 and "no time-series module" in err
