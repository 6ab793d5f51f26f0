"""The walls around code of others: what it cannot reach or use up, and that there is no way without them."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.agents.offered import offered_tools
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.toolbox import Toolbox
from s1pro.tasks.confined import parent
from s1pro.tasks.confined.parent import Confined, ConfinementError, Outcome, Walls


def can_confine() -> bool:
    """Asked of the system, not of the code under test."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--fork", "true"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


needs_walls = pytest.mark.skipif(not can_confine(), reason="no namespaces here")


@pytest.fixture(scope="module")
def confined() -> Iterator[Confined]:
    found = Confined(Walls(seconds=100, memory_mb=256))
    yield found
    found.close()


def run(confined: Confined, code: str) -> Outcome:
    return asyncio.run(confined.python(code))


@needs_walls
def test_output_and_the_value_of_the_last_line(confined: Confined) -> None:
    assert run(confined, "print(6 * 7)\n[1, 2][::-1]") == Outcome(ended="done", output="42\n[2, 1]\n")
    assert run(confined, "x = 1").output == ""
    assert run(confined, "1 / 0") == Outcome(ended="error", output="ZeroDivisionError: division by zero\n")
    assert "SyntaxError" in run(confined, "def (").output
    assert run(confined, "raise SystemExit(3)").ended == "error"


@needs_walls
@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "open('/tmp/../proc/1/environ').read()",
        f"open({str(Path(__file__).resolve())!r}).read()",
        "import os; os.listdir('/home')",
        "open('/usr/here', 'w')",
        "import os; os.mkdir('/here')",
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['/bin/true'], check=True)",
        "import os; os.execv('/bin/true', ['true'])",
        "import threading; threading.Thread(target=print).start()",
        "import os; os.setuid(0)",
        "import os; os.chroot('/scratch')",
        "import ctypes; r = ctypes.CDLL(None, use_errno=True).unshare(0x10000000); assert r == 0",
        "import ctypes; r = ctypes.CDLL(None).mount(b'none', b'/scratch', b'tmpfs', 0, None); assert r == 0",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "open('large', 'wb').write(bytes(1 << 25))",
        "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))",
        "import os; os.sched_setaffinity(1, {0})",
        "import os; os.setpriority(os.PRIO_PROCESS, 1, 10)",
        "import os; os.memfd_create('memory')",
        "import ctypes; assert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
        "import ctypes; assert ctypes.CDLL(None).semget(0, 1, 0o1600) >= 0",
        "import ctypes; assert ctypes.CDLL(None).msgget(0, 0o1600) >= 0",
    ],
)
def test_what_cannot_be_reached(confined: Confined, code: str) -> None:
    assert run(confined, code).ended in ("error", "crash")


@needs_walls
def test_what_is_visible(confined: Confined) -> None:
    seen = run(confined, "import os; print(os.getuid(), sorted(os.environ), os.path.exists('/proc'), os.getcwd())")
    names = ["HOME", "LC_ALL", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TMPDIR"]
    assert seen.output == f"1000 {names} False /scratch\n"
    assert run(confined, "import os; os.kill(-1, 9); print(1)").ended in ("crash", "error", "done")
    assert run(confined, "print(2)").output == "2\n"  # whatever that did, the next request is served


@needs_walls
def test_what_cannot_be_used_up(confined: Confined) -> None:
    for code in ("while True: pass", "import time; time.sleep(1000)"):
        impatient = Confined(Walls(seconds=1.5))
        assert run(impatient, code).ended == "time"
        impatient.close()
    assert run(confined, "x = bytearray(1 << 30)").ended == "memory"
    assert len(run(confined, "print('a' * 10_000_000)").output) == confined.walls.output_bytes
    assert run(confined, "import ctypes; ctypes.string_at(0)").ended == "crash"
    assert run(confined, "import os; os._exit(0)").ended == "crash"


@needs_walls
def test_nothing_is_left_for_the_next_request(confined: Confined) -> None:
    assert run(confined, "open('secret', 'w').write('x'); import builtins; builtins.secret = 1").ended == "done"
    assert run(confined, "import os; print(os.listdir('.'), hasattr(__builtins__, 'secret'))").output == "[] False\n"


@needs_walls
def test_a_killed_process_is_replaced_and_none_is_left(tmp_path: Path) -> None:
    confined = Confined(Walls(seconds=5))
    assert run(confined, "print(1)").output == "1\n"
    (worker,) = confined._workers
    assert worker._process is not None
    pid = worker._process.pid
    worker._process.kill()
    assert run(confined, "print(2)").output == "2\n"  # once more, in a new process
    assert run(confined, "print(3)").output == "3\n"
    again = pickle.loads(pickle.dumps(confined))  # noqa: S301
    confined.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert run(again, "print(4)").output == "4\n"
    again.close()


@needs_walls
def test_a_process_that_dies_is_told_from_one_that_is_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It greets and dies at every request, so there are two of them, and the request has not taken too long."""
    starts = tmp_path / "starts"
    boot = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
        f"open({str(starts)!r}, 'a').write('x')\n"
        "from s1pro.tasks.confined.child import read_frame, write_frame\n"
        "write_frame(1, {'refused': ''}); read_frame(0)"
    )
    monkeypatch.setattr(parent, "_BOOT", boot)
    confined = Confined(Walls(seconds=20))
    assert run(confined, "print(1)") == Outcome(ended="lost")
    assert starts.read_text() == "xx"
    monkeypatch.undo()
    assert run(confined, "print(1)").output == "1\n"
    confined.close()


@needs_walls
def test_calls_into_given_folders(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text("def double(x):\n    return {'twice': 2 * x}\n", encoding="utf-8")
    confined = Confined(Walls(folders=(tmp_path,)))
    assert asyncio.run(confined.call("foreign:double", x=[1, 2])) == Outcome(
        ended="done", value={"twice": [1, 2, 1, 2]}
    )
    assert asyncio.run(confined.call("foreign:triple", x=1)).ended == "error"
    confined.close()


@needs_walls
def test_python_as_a_tool() -> None:
    def toolbox(seconds: float) -> Toolbox:
        config = AgentConfig(tools=("python",), call_seconds=seconds)
        return Toolbox(tools=offered_tools(config), seconds=config.call_seconds, max_chars=config.output_chars)

    patient = toolbox(100.0)

    def ask(code: str, tools: Toolbox = patient) -> str:
        import json

        return asyncio.run(tools.answer("python", json.dumps({"code": code})))

    assert ask("sum(range(101))") == "5050"
    assert ask("x = 1") == "(nothing was printed)"
    assert ask("1 / 0") == "Error: ZeroDivisionError: division by zero"
    assert ask("while True: pass", toolbox(1.0)) == "Error: the program took too long"


def test_without_walls_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that refuses any one step refuses everything, in words, also at the start of a run."""
    boot = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
        "from s1pro.tasks.confined import child, namespaces\n"
        "def no(*a, **k): raise OSError(1, 'unshare: Operation not permitted')\n"
        "child.enter = no; child.main()"
    )
    monkeypatch.setattr(parent, "_BOOT", boot)
    marker = tmp_path / "ran"
    with pytest.raises(ConfinementError, match=r"unshare: Operation not permitted.*nothing was run"):
        run(Confined(), f"open({str(marker)!r}, 'w')")
    with pytest.raises(InputError, match="cannot be confined here"):
        offered_tools(AgentConfig(tools=("python",)))
    assert not marker.exists()


@needs_walls
def test_a_child_that_keeps_its_rights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
        "from s1pro.tasks.confined import child\n"
        "def no(*a, **k): raise OSError(38, 'seccomp: Function not implemented')\n"
        "child.give_up_rights = no; child.main()"
    )
    monkeypatch.setattr(parent, "_BOOT", boot)
    with pytest.raises(ConfinementError, match="seccomp"):
        run(Confined(), "print(1)")
