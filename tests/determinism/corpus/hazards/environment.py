"""What differs from one worker to the next: variables, arguments, the machine; and what is on its disk."""

import getpass
import glob
import locale
import os
import os.path
import pathlib
import platform
import socket
import sys
from os import environ, getenv, path
from pathlib import Path

from durabletask import task

DATA = Path("data")


def choose(ctx: task.ActivityContext, name: str) -> str:
    return name


def variable(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=os.getenv("REGION", "eu"))  #! DT106


def variable_by_name(ctx: task.OrchestrationContext, _):
    region = getenv("REGION")  #! DT106
    yield ctx.call_activity(choose, input=region)


def subscript_of_environ(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=os.environ["REGION"])  #! DT106


def get_of_environ(ctx: task.OrchestrationContext, _):
    if environ.get("FAST"):  #! DT106
        return "skipped"
    return (yield ctx.call_activity(choose, input="slow"))


def is_in_environ(ctx: task.OrchestrationContext, _):
    mode = "debug" if "DEBUG" in os.environ else "normal"  #! DT106
    yield ctx.call_activity(choose, input=mode)


def arguments(ctx: task.OrchestrationContext, _):
    verbose = "-v" in sys.argv  #! DT106
    yield ctx.call_activity(choose, input=str(verbose))


def host_name(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=socket.gethostname())  #! DT106


def operating_system(ctx: task.OrchestrationContext, _):
    separator = "\\" if platform.system() == "Windows" else "/"  #! DT106
    yield ctx.call_activity(choose, input=separator)


def platform_name(ctx: task.OrchestrationContext, _):
    if sys.platform == "win32":  #! DT106
        return "unsupported"
    return (yield ctx.call_activity(choose, input="posix"))


def language(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=str(locale.getlocale()))  #! DT106


def directory(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=os.getcwd())  #! DT106


def directory_as_a_path(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=Path.cwd().name)  #! DT106


def user(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=getpass.getuser())  #! DT106


def process(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(choose, input=f"worker-{os.getpid()}")  #! DT106


def file_exists(ctx: task.OrchestrationContext, name: str):
    if not os.path.exists(name):  #! DT107
        return None
    return (yield ctx.call_activity(choose, input=name))


def path_exists(ctx: task.OrchestrationContext, name: str):
    if (DATA / name).exists():  #! DT107
        yield ctx.call_activity(choose, input=name)


def imported_path_module(ctx: task.OrchestrationContext, name: str):
    size = path.getsize(name)  #! DT107
    yield ctx.call_activity(choose, input=str(size))


def status_of_a_file(ctx: task.OrchestrationContext, name: str):
    changed = os.stat(name).st_mtime  #! DT107
    yield ctx.call_activity(choose, input=str(changed))


def is_a_directory(ctx: task.OrchestrationContext, name: str):
    kind = "folder" if pathlib.Path(name).is_dir() else "file"  #! DT107
    yield ctx.call_activity(choose, input=kind)


def counts_a_listing(ctx: task.OrchestrationContext, name: str):
    count = len(os.listdir(name))  #! DT107
    yield ctx.call_activity(choose, input=str(count))


def any_match(ctx: task.OrchestrationContext, name: str):
    if glob.glob(f"{name}/*.done"):  #! DT107
        return "done"
    return (yield ctx.call_activity(choose, input=name))


def access(ctx: task.OrchestrationContext, name: str):
    if os.access(name, os.R_OK):  #! DT107
        yield ctx.call_activity(choose, input=name)


ORCHESTRATORS = (
    variable,
    variable_by_name,
    subscript_of_environ,
    get_of_environ,
    is_in_environ,
    arguments,
    host_name,
    operating_system,
    platform_name,
    language,
    directory,
    directory_as_a_path,
    user,
    process,
    file_exists,
    path_exists,
    imported_path_module,
    status_of_a_file,
    is_a_directory,
    counts_a_listing,
    any_match,
    access,
)


RUN = [
    *((orchestrator, None) for orchestrator in ORCHESTRATORS[:14]),
    (file_exists, "order.txt"),
    (path_exists, "order.txt"),
    (imported_path_module, "order.txt"),
    (status_of_a_file, "order.txt"),
    (is_a_directory, "data"),
    (counts_a_listing, "data"),
    (any_match, "data"),
    (access, "order.txt"),
]


def register(worker):
    worker.add_activity(choose)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
