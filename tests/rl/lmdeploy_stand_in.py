"""A process that speaks as LMDeploy does and serves one model folder.

    python -m tests.rl.lmdeploy_stand_in FOLDER PORT

The answers are those of this project's engine. It reads its weights when it starts, and never again.
"""

from __future__ import annotations

import sys
import threading

import torch

from s1pro.checkpoint.released import load_network
from s1pro.inputs.processor import Processor
from tests.fake_endpoint import FakeEndpoint
from tests.rl.engine_servers import RecordingServer


def serve(folder: str, port: int) -> None:
    torch.set_num_threads(1)
    server = RecordingServer("lmdeploy", load_network(folder).eval(), Processor.from_pretrained(folder))
    server.model = folder
    with FakeEndpoint(server.behave, port=port):
        threading.Event().wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
