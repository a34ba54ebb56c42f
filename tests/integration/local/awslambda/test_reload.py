"""Changed code and template are served without a restart: covers reload and schedule."""

import asyncio
import logging
from pathlib import Path

from local.awslambda.environment import Sandbox
from local.awslambda.reload import Reloader
from local.awslambda.schedule import Scheduler
from local.awslambda.service import LambdaService
from local.template.account import Account
from local.template.resources import Function, Template

DEADLINE_S = 10.0


class Ear(logging.Handler):
    """Hears what is logged on its event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.levelname} {record.getMessage()}")
        self.heard.set()


async def watch_and_stop(folder: Path) -> list[str]:
    """Watch a template and a function in *folder* until something is logged, and stop; return what was logged."""
    ear, logger = Ear(), logging.getLogger("local.reload")
    template = Template({"F": Function("F", folder, "app.handler", 3, 128, {}, (), None, 0, 60)}, "Api", (), None, ())
    account = Account()
    sandbox = Sandbox(account=account, lambda_url="", output=lambda _name, _line: None, shell={})
    functions = LambdaService(template.functions, sandbox)
    reloader = Reloader(template, folder / "template.yaml", functions, Scheduler((), functions, account))
    logger.addHandler(ear)
    try:
        reloader.start()
        async with asyncio.timeout(DEADLINE_S):
            await ear.heard.wait()
            await reloader.close()
    finally:
        logger.removeHandler(ear)
        await functions.close()
    return ear.messages


def test_what_cannot_be_watched_is_told_once_and_stopping_ends_well(tmp_path):
    (message,) = asyncio.run(watch_and_stop(tmp_path / "gone"))
    assert message.startswith("WARNING changes are not watched: ")
    assert message.endswith("; restart to serve them")
