"""What lint finds, by which route, how it says so, and what it mends."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from dt_testkit.cli import main
from dt_testkit.errors import DurableTestError
from dt_testkit.hazards import BY_CODE, HAZARDS, hazard_of_call, hazard_of_read
from dt_testkit.lint import fix_paths, lint_paths
from dt_testkit.lint.page import PAGE, render

ROOT = Path(__file__).parents[2]
HEAD = """
import logging
import os
import random
import requests
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, TaskFailedError, when_all

seen = []

def work(ctx: ActivityContext, value): ...
def fetch(ctx: ActivityContext, value): ...
def is_ready(ctx: ActivityContext, value): ...
def double(ctx: ActivityContext, number: int) -> int: ...

def register(worker):
    worker.add_orchestrator(flow)
    for activity in (work, fetch, is_ready, double):
        worker.add_activity(activity)

def flow(ctx: OrchestrationContext, order):
"""
LINES_BEFORE = HEAD.count("\n")


@pytest.fixture
def lint(tmp_path):
    """Writes files, and gives what lint finds in them."""

    def lint(source: str | dict[str, str], **options):
        write(tmp_path, {"flow.py": source} if isinstance(source, str) else source)
        return lint_paths([tmp_path], root=tmp_path, **options)

    return lint


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))


def body(text: str) -> str:
    return HEAD + textwrap.indent(text, "    ") + "\n"


def codes(report) -> list[str]:
    return [finding.code for finding in report.findings]


# -- the table


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.code)
def test_the_wrong_example_of_a_rule_is_found_unless_the_rule_is_off(hazard, lint):
    assert hazard.code in codes(lint(body(hazard.wrong)))
    assert hazard.code not in codes(lint(body(hazard.wrong), ignore=[hazard.code]))
    if hazard.code != "DT901":  # of a rule that is off nobody knows whether its ignores are used
        assert set(codes(lint(body(hazard.wrong), select=[hazard.code]))) == {hazard.code}


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.code)
def test_the_right_example_of_a_rule_is_clean(hazard, lint):
    assert [found.message for found in lint(body(hazard.right)).findings] == []


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.code)
def test_a_message_names_the_thing_what_happens_and_the_way_out(hazard, lint):
    [found] = [found for found in lint(body(hazard.wrong)).findings if found.code == hazard.code]
    assert found.severity == hazard.severity
    assert found.message.endswith(f": {hazard.why}; {hazard.instead}.")


def test_codes_and_names_are_unique_and_no_call_belongs_to_two_hazards():
    assert len(BY_CODE) == len(HAZARDS) == len({hazard.name for hazard in HAZARDS})
    calls = [call for hazard in HAZARDS for call in hazard.calls if "*" not in call]
    assert sorted(calls) == sorted(set(calls))


def test_a_name_that_fits_a_pattern_is_found_and_what_is_pure_is_not():
    assert hazard_of_call("requests.Session.get").code == "DT105"
    assert hazard_of_call("requests.exceptions.ConnectionError") is None
    assert hazard_of_call("secrets.compare_digest") is None
    assert hazard_of_call("uuid.uuid5") is None
    assert hazard_of_read("os.environ").code == "DT106"


@pytest.mark.parametrize(
    "name",
    [
        "requests.get",
        "requests.Session",
        "requests.sessions.Session.get",
        "httpx.AsyncClient.get",
        "httpx.stream",
        "sqlalchemy.create_engine",
        "sqlalchemy.create_engine.connect",
        "sqlalchemy.orm.Session.execute",
        "sqlalchemy.orm.sessionmaker",
        "sqlalchemy.ext.asyncio.create_async_engine",
        "sqlalchemy.MetaData.create_all",
        "azure.storage.blob.BlobServiceClient.from_connection_string",
        "azure.identity.aio.DefaultAzureCredential",
        "azure.cosmos.CosmosClient.get_database_client.get_container_client",
        "azure.cosmos.ContainerProxy.read_item",
        "azure.core.pipeline.transport.RequestsTransport",
        "azure.monitor.opentelemetry.configure_azure_monitor",
        "subprocess.run",
        "boto3.client",
        "boto3.client.put_object",
        "boto3.session.Session",
        "botocore.session.get_session",
        "aiohttp.ClientSession.get",
        "aiohttp.request",
        "google.cloud.firestore.Client.collection.document.get",
        "google.cloud.storage.Blob.download_as_bytes",
        "google.cloud.pubsub_v1.PublisherClient.publish",
        "googleapiclient.discovery.build",
        "kubernetes.client.CoreV1Api.list_namespaced_pod",
        "kubernetes.client.ApiClient",
        "kubernetes.config.load_incluster_config",
        "kubernetes.watch.Watch.stream",
        "grpc.insecure_channel",
        "grpc.aio.secure_channel.unary_unary",
        "redis.from_url",
        "redis.asyncio.Redis.get",
        "pymongo.MongoClient.__getitem__",
        "pymongo.collection.Collection.find_one",
        "psycopg.AsyncConnection.connect",
        "psycopg2.connect.cursor.execute",
        "psycopg2.extras.execute_values",
        "mysql.connector.connect",
        "elasticsearch.Elasticsearch.search",
        "elasticsearch.helpers.bulk",
        "elasticsearch.dsl.Search.query.execute",
        "celery.group.apply_async",
        "celery.chain.__call__",
        "pika.BlockingConnection",
        "confluent_kafka.Producer.produce",
        "nats.connect",
        "paho.mqtt.publish.single",
        "openai.chat.completions.create",
        "anthropic.AsyncAnthropic",
        "stripe.Charge.create",
        "docker.from_env.containers.run",
        "urllib3.PoolManager.request",
        "urllib.request.urlopen",
        "websockets.sync.client.connect",
        "smtplib.SMTP_SSL",
        "http.client.HTTPSConnection.request",
        "paramiko.SSHClient.connect",
        "tempfile.NamedTemporaryFile",
        "shutil.rmtree",
        "fsspec.open_files",
        "tinydb.TinyDB",
    ],
)
def test_what_a_well_known_library_does_with_the_world_is_a_hazard(name):
    assert hazard_of_call(name).code == "DT105"


PURE = [
    "httpx.URL('https://example.com/a').copy_with(host='x')",
    "httpx.Response(200, json={}).json()",
    "httpx.codes.is_success(order)",
    "requests.structures.CaseInsensitiveDict(a=1)",
    "requests.Request('GET', 'http://x').prepare()",
    "subprocess.CompletedProcess(['a'], 0).check_returncode()",
    "sqlalchemy.column('a').label('b')",
    "sqlalchemy.and_(order, order)",
    "sqlalchemy.select(order).where(order).limit(1)",
    "sqlalchemy.orm.aliased(order)",
    "sqlalchemy.MetaData().tables",
    "azure.core.utils.CaseInsensitiveDict(a=1)",
    "azure.core.credentials.AzureKeyCredential('a').key",
    "azure.storage.blob.ContentSettings(content_type='a')",
    "boto3.dynamodb.conditions.Key('a').eq(1)",
    "psycopg.sql.SQL('a').format(order)",
    "urllib3.util.parse_url('http://x')",
    "urllib3.HTTPHeaderDict(a=1).items()",
    "urllib.request.url2pathname('a')",
    "http.client.HTTPMessage().items()",
    "xmlrpc.client.dumps((1,))",
    "subprocess.TimeoutExpired('a', 1)",
    "shutil.ignore_patterns('*.pyc')",
    "ssl.PEM_cert_to_DER_cert(order)",
    "socket.timeout('late')",
    "sqlite3.Binary(b'a')",
    "smtplib.quoteaddr('a')",
    "aiohttp.ClientTimeout(5).total",
    "aiohttp.BasicAuth('a', 'b').encode()",
    "aiohttp.FormData({'a': 1})",
    "kubernetes.client.V1Pod(metadata=kubernetes.client.V1ObjectMeta(name='a')).to_dict()",
    "kubernetes.utils.parse_quantity('1Gi')",
    "google.cloud.firestore.SERVER_TIMESTAMP",
    "google.cloud.firestore.Increment(1)",
    "google.cloud.pubsub_v1.types.PubsubMessage(data=b'a')",
    "azure.core.exceptions.ResourceNotFoundError('a').message",
    "azure.core.pipeline.policies.RetryPolicy(retry_total=3)",
    "azure.servicebus.ServiceBusMessage('a').body",
    "azure.eventhub.EventHubSharedKeyCredential('a', 'b')",
    "azure.cosmos.PartitionKey('/id')",
    "azure.monitor.query.LogsBatchQuery('a', 'b', timespan=None)",
    "boto3.s3.transfer.TransferConfig(max_concurrency=2)",
    "botocore.config.Config(retries={})",
    "grpc.StatusCode('a')",
    "grpc.ssl_channel_credentials(b'a')",
    "redis.backoff.ExponentialBackoff(1)",
    "redis.commands.search.query.Query('*').paging(0, 1)",
    "pymongo.UpdateOne({}, {})",
    "pymongo.IndexModel('a').document",
    "psycopg.types.json.Jsonb({})",
    "psycopg2.extras.Json({})",
    "elasticsearch.dsl.Q('match', title='a')",
    "celery.schedules.crontab(hour=1)",
    "celery.exceptions.Retry('a')",
    "pika.BasicProperties(delivery_mode=2)",
    "kafka.TopicPartition('a', 1)",
    "openai.types.chat.ChatCompletionMessage(role='a', content='b')",
    "openai.NotGiven()",
    "stripe.Event.construct_from(order, 'key')",
    "docker.types.Mount('a', 'b')",
    "websockets.ConnectionClosed(None, None)",
    "paho.mqtt.properties.Properties(1)",
    "twilio.twiml.voice_response.VoiceResponse().say('a')",
    "sendgrid.helpers.mail.Mail('a', 'b')",
    "slack_sdk.models.blocks.SectionBlock(text='a').to_dict()",
    "snowflake.snowpark.functions.col('a')",
    "cassandra.query.SimpleStatement('a')",
    "tinydb.where('a')",
    "psutil.NoSuchProcess(1)",
    "decouple.Csv()",
]


@pytest.mark.parametrize("text", PURE)
def test_a_pure_value_of_a_well_known_library_is_no_hazard(text, lint):
    module = text.partition("(")[0].rpartition(".")[0].removesuffix(".codes")
    report = lint(body(f"import {module}\nyield ctx.call_activity(work, input=str({text}))"))
    assert [found.message for found in report.findings if found.severity != "note"] == []


def test_what_a_factory_of_sessions_gives_is_a_session(lint):
    source = """
        from sqlalchemy import create_engine
        from sqlalchemy.orm import sessionmaker
        Session = sessionmaker(create_engine("sqlite://"))
        def flow(ctx, order):
            with Session() as session:
                yield ctx.call_activity("work", input=session)
    """
    [found] = lint(source).findings
    assert (found.code, found.line) == ("DT105", 6)
    assert found.message.startswith("`sqlalchemy.orm.sessionmaker()`: ")


# -- where orchestrators are

NOW = "import time\n"
USE = "    yield c.call_activity('work', input=time.time())\n"


@pytest.mark.parametrize(
    "source",
    [
        "def flow(c, _):\nUSE\ndef main(worker):\n    worker.add_orchestrator(flow)\n",
        "def flow(c, _):\nUSE\nALL = (flow,)\nfor f in ALL:\n    worker.add_orchestrator(f)\n",
        "import durabletask.task as t\ndef flow(c: t.OrchestrationContext, _):\nUSE\n",
        "def flow(c: 'OrchestrationContext', _):\nUSE\n",
        "def flow(ctx, _):\n    yield ctx.call_activity('work', input=time.time())\n",
        "def flow(ctx, _):\n    yield ctx.call_activity_with_retry('work', None, time.time())\n",
        "def flow(context):\n    yield context.call_http('GET', f'https://x/{time.time()}')\n",
        "@app.orchestration_trigger(context_name='c')\ndef flow(c):\nUSE\n",
        "def flow(c, _):\nUSE\ndef parent(ctx, _):\n    yield ctx.call_sub_orchestrator(flow)\n",
        "def flow(c, _):\nUSE\ndef test(client):\n    client.schedule_new_orchestration(flow)\n",
        "def flow(c, _):\nUSE\ndef test(hub):\n    hub.run(flow, input=1)\n",
        "def flow(c, _):\nUSE\ndef test(history):\n    replay(history, flow)\n",
        "def test(hub):\n    def flow(c, _):\n    USE\n    hub.start(flow)\n",
        "def flow(c, _):\nUSE\ndef parent(ctx, _):\n    yield ctx.call_sub_orchestrator('flow')\n",
        "def flow(c, _):\nUSE\ndef test(client):\n    client.schedule_new_orchestration('flow')\n",
        "from functools import partial\ndef flow(n, c, _):\nUSE\nworker.add_orchestrator(partial(flow, 1))\n",
        "from functools import partial\n"
        "def flow(c, _, read):\n    yield c.call_activity('work', input=read())\n"
        "worker.add_orchestrator(partial(flow, read=time.time))\n",
        "worker.add_orchestrator(lambda c, _: (yield c.call_activity('work', input=time.time())))\n",
        "class Flow:\n    def __call__(self, c, _):\n    USE\nworker.add_orchestrator(Flow())\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from durabletask.task import OrchestrationContext as OC\ndef flow(c: 'OC', _):\nUSE\n",
        "from typing import Optional\nimport durabletask.task as t\n"
        "def flow(c: Optional[t.OrchestrationContext], _):\nUSE\n",
        "from typing import Annotated\nfrom durabletask.task import OrchestrationContext\n"
        "Ctx = Annotated[OrchestrationContext, 1]\ndef flow(c: Ctx, _):\nUSE\n",
    ],
)
def test_an_orchestrator_is_found_however_it_is_made_one(source, lint):
    report = lint(NOW + source.replace("USE", USE.rstrip("\n")))
    assert codes(report) == ["DT101"]


@pytest.mark.parametrize(
    "source",
    [
        "def flow(c: task.OrchestrationContext, _):\n    time.sleep(3)\n    return 1\n",
        "class Flows:\n    def flow(self, c: task.OrchestrationContext, _):\n        time.sleep(3)\n",
    ],
)
def test_an_orchestrator_that_is_annotated_needs_no_yield(source, lint):
    report = lint("import time\nfrom durabletask import task\n" + source)
    assert (codes(report), report.orchestrators) == (["DT104"], 1)


def test_a_helper_that_takes_the_context_is_no_orchestrator_where_one_calls_it(lint):
    helpers = """\
        def outer(ctx: OrchestrationContext):
            return stamp(ctx)

        def stamp(ctx: OrchestrationContext):
            return time.time()
    """
    head = "import time\nfrom durabletask.task import OrchestrationContext\n"
    helpers = head + textwrap.dedent(helpers)
    flow = "def flow(ctx: OrchestrationContext, _):\n    yield ctx.call_activity('work', input=outer(ctx))\n"
    bound = "def flow(n, ctx, _):\n    yield ctx.call_activity('work', input=outer(ctx))\n"
    bound += "worker.add_orchestrator(partial(flow, 1))\n"
    for source in (helpers + flow, "from functools import partial\n" + helpers + bound):
        report = lint(source)
        [found] = report.findings
        assert (found.code, report.orchestrators) == ("DT101", 1)
        assert [step.split()[1] for step in found.route] == ["flow", "outer", "stamp"]
    [found] = (report := lint(helpers)).findings  # where no orchestrator is to be seen, each may be one
    assert (found.code, report.orchestrators) == ("DT101", 1)
    assert [step.split()[1] for step in found.route] == ["outer", "stamp"]


@pytest.mark.parametrize(
    "source",
    [
        "def parts(c: OrchestrationContext):\n    return {1, 2}\n",
        "def charge(c: OrchestrationContext):\n    return c.call_activity('work')\n",
        "def now(c: OrchestrationContext = None):\n    return c.current_utc_datetime if c else time.time()\n",
        "class Saga:\n    def __init__(self, c: OrchestrationContext):\n        self.at = time.time()\n",
        "class Saga:\n    def add(self, c: OrchestrationContext, step):\n        self.steps.append(step)\n",
        "class Step:\n    def run(self, c: OrchestrationContext): ...\n",
    ],
)
def test_a_helper_that_no_orchestrator_calls_is_not_judged_for_what_only_one_may_not_do(source, lint):
    head = "import time\nfrom durabletask.task import OrchestrationContext\n"
    assert lint(head + source).findings == []


def test_an_activity_may_do_what_it_likes(lint):
    assert lint(body("yield ctx.call_activity(work)").replace("value): ...", "value): return time.time()")).ok


# -- routes


def test_a_hazard_is_found_through_modules_and_the_route_to_it_is_told(lint):
    report = lint(
        {
            "shop/__init__.py": "",
            "shop/flows.py": """\
                from durabletask.task import OrchestrationContext
                from shop import steps

                def flow(ctx: OrchestrationContext, _):
                    yield from steps.prepare(ctx)
            """,
            "shop/steps/__init__.py": """\
                from .inner import Preparer as _P

                def prepare(ctx):
                    return (yield from _P().run(ctx))
            """,
            "shop/steps/inner.py": """\
                from time import time as t

                class Preparer:
                    def run(self, ctx):
                        yield ctx.call_activity("work", input=self.stamp)

                    @property
                    def stamp(self):
                        return t()
            """,
        }
    )
    [found] = [found for found in report.findings if found.severity != "note"]
    assert (found.path, found.line, found.code) == ("shop/steps/inner.py", 9, "DT101")
    assert found.route == (
        "shop/flows.py:5 flow",
        "shop/steps/__init__.py:4 prepare",
        "shop/steps/inner.py:5 run",
        "shop/steps/inner.py:9 stamp",
    )
    assert "reached by shop/flows.py:5 flow -> " in report.render()


@pytest.mark.parametrize(
    "text",
    [
        "now = datetime.now\nreturn str(now())",
        "return str(getattr(time, 'time')())",
        "import time as t\nreturn t.time()",
        "from functools import partial\nreturn partial(time.time)()",
        "return [time.time() for _ in order]",
        "return (lambda: time.time())()",
        "def inner():\n    return time.time()\nreturn inner()",
        "return sorted(order, key=lambda one: time.time())",
        "async def inner():\n    return time.time()\ninner()",
        pytest.param(
            "try:\n    yield\nexcept* ValueError:\n    time.time()",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="except* is new in Python 3.11"),
        ),
    ],
)
def test_a_hazard_is_found_behind_other_names(text, lint):
    assert "DT101" in codes(lint(body(text + "\nyield ctx.call_activity(work)")))


@pytest.mark.parametrize(
    "text",
    [
        "time = order\nyield ctx.call_activity(work, input=time.time())",
        "yield ctx.call_activity(work, input=str(datetime(2026, 1, 1)))",
        "yield ctx.call_activity(work, input=str(uuid.uuid5(uuid.NAMESPACE_URL, ctx.instance_id)))",
        "def sleep(seconds: 'time.sleep') -> None: ...\nyield ctx.call_activity(work)",
        "for item in sorted({'desk', 'chair'}):\n    yield ctx.call_activity(work, input=item)",
        "if not ctx.is_replaying:\n    logging.info('once')\nyield ctx.call_activity(work)",
        "n = 0\ndef add():\n    nonlocal n\n    n += 1\nadd()\nyield ctx.call_activity(work, input=n)",
        "try:\n    yield ctx.call_activity(work)\nexcept BaseException:\n    raise",
    ],
)
def test_what_only_looks_like_a_hazard_is_none(text, lint):
    assert [found.message for found in lint(body(text)).findings if found.severity != "note"] == []


def test_the_context_given_to_what_is_not_known_is_a_note(lint):
    report = lint(body("import json\njson.dumps(ctx)\njson.dumps(order)\nyield ctx.call_activity(work)"))
    assert [(found.code, found.severity) for found in report.findings] == [("DT900", "note")]
    assert report.ok


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import acme\nacme.price(1)\nacme.price(2)", "`acme.price()` is of another package"),
        ("from .gone import price\nprice(1)", "`price()` cannot be found"),
        ("order['step'](ctx)", "`order['step']()` is given the context, and cannot be found"),
        ("getattr(time, order)()", "what `getattr()` gets at is known only when it runs"),
        (
            "class Step:\n    def run(self):\n        raise NotImplementedError\nStep().run()",
            "`Step.run()` is left to subclasses, and which of them it is",
        ),
    ],
)
def test_what_cannot_be_followed_is_noted_once(text, what, lint):
    [found] = lint(body(text + "\nyield ctx.call_activity(work)")).findings
    assert (found.code, found.severity) == ("DT900", "note")
    assert found.message.startswith(f"{what}: what is called there is not known")


def test_a_registration_of_what_source_does_not_show_is_noted(lint):
    [found] = lint("def main(worker, name):\n    worker.add_orchestrator(globals()[name])\n").findings
    assert found.message.startswith("`globals()[name]` is registered, and cannot be found")


def test_a_note_about_what_cannot_be_followed_can_be_switched_off(lint):
    broken = "def flow(:\n    yield\n"
    assert codes(lint(broken)) == ["DT900"]
    assert codes(lint(broken, ignore=["DT900"])) == []


def test_a_file_that_cannot_be_parsed_is_a_note(lint):
    [found] = lint("def flow(:\n    yield\n").findings
    assert (found.code, found.line, found.severity) == ("DT900", 1, "note")


def test_a_file_that_cannot_be_parsed_is_a_note_whatever_is_in_it(lint, shell):
    [found] = lint({"bad.py": "def broken(:\n"}).findings
    assert (found.path, found.code) == ("bad.py", "DT900")
    assert "the file cannot be read" in shell("bad.py").output


def test_a_call_into_a_file_of_the_project_that_cannot_be_parsed_names_it(lint):
    flow = "IMPORT\ndef flow(ctx):\n    CALL\n    yield ctx.create_timer(1)\n"
    for import_, call in [
        ("from shop import bad", "bad.price()"),
        ("from shop.bad import price", "price()"),
        ("import shop.bad", "shop.bad.price()"),
        ("from . import bad", "bad.price()"),
        ("from .bad import price", "price()"),
    ]:
        source = flow.replace("IMPORT", import_).replace("CALL", call)
        report = lint({"shop/__init__.py": "", "shop/bad.py": "def price(:\n", "shop/flow.py": source})
        broken, found = report.findings
        assert broken.message.startswith("the file cannot be read")
        assert found.message.startswith(f"`{call}` is of shop/bad.py, which cannot be read: "), import_


def test_what_is_no_python_and_what_holds_none_is_refused(shell):
    Path("empty").mkdir()
    Path("pyproject.toml").write_text("[project]\n")
    for path, message in [
        ("empty", "There is no Python source under empty"),
        ("pyproject.toml", "pyproject.toml is not Python source"),
    ]:
        result = shell(path)
        assert (result.exit_code, result.output.startswith(f"Error: {message}")) == (2, True)
    Path("script").write_text("#!/usr/bin/env python\nimport time\n")
    assert shell("script").output == "0 orchestrators in 1 file: clean\n"


# -- ignores


@pytest.mark.parametrize(
    ("import_", "name"),
    [
        ("from dt_testkit import allow_nondeterminism", "allow_nondeterminism"),
        ("from dt_testkit.determinism import allow_nondeterminism as allow", "allow"),
        ("import dt_testkit.guard", "dt_testkit.guard.allow_nondeterminism"),
    ],
)
def test_what_a_block_of_allow_nondeterminism_lets_through_is_allowed(import_, name, lint):
    text = f"""\
with {name}("only in a log line"):
    at = stamp()
    time.sleep(1)
    os.getenv("A")
    yield from steps(ctx)
yield ctx.call_activity(work)
"""
    helpers = (
        "def stamp():\n    return time.time()\ndef steps(ctx):\n    yield ctx.create_timer(random.random())\n"
    )
    assert lint(f"{import_}\n{helpers}" + body(text)).findings == []
    outside = text + "stamp()\n"  # what is allowed in the block is not so elsewhere
    [found] = lint(f"{import_}\n{helpers}" + body(outside)).findings
    assert found.code == "DT101"
    assert found.route[0].endswith(f":{LINES_BEFORE + 12} flow")
    other = text.replace(name, "other")
    assert {"DT101", "DT104", "DT106", "DT102"} <= set(codes(lint(f"{import_}\n{helpers}" + body(other))))


def test_a_block_of_allow_nondeterminism_allows_what_the_guard_judges_and_nothing_else(lint):
    head = "from dt_testkit import allow_nondeterminism\n"
    text = """\
with allow_nondeterminism("the library reads a clock"):
    pass
with allow_nondeterminism("fine"):
    for item in {"desk", "chair"}:
        yield ctx.call_activity(work, input=item)
    print(order)
"""
    assert codes(lint(head + body(text))) == ["DT108", "DT116"]


@pytest.mark.parametrize("given", ["", '""', '" "', "None", 'reason=""'])
def test_a_block_of_allow_nondeterminism_without_a_reason_is_a_finding(given, lint):
    head = "from dt_testkit import allow_nondeterminism\n"
    text = f"with allow_nondeterminism({given}):\n    time.time()\nyield ctx.call_activity(work)"
    [found] = lint(head + body(text)).findings
    assert (found.code, found.severity) == ("DT902", "warning")
    assert found.message.startswith("an `allow_nondeterminism` without a reason: ")
    assert lint(head + body(text.replace(f"({given})", "(order)"))).findings == []


def test_an_ignore_may_have_a_space_before_its_bracket(lint):
    text = "time.time()  # dt: ignore [DT101] thrown away\nyield ctx.call_activity(work)"
    assert lint(body(text)).findings == []


def test_an_ignore_with_a_reason_ignores_its_code_in_its_line(lint):
    assert (
        lint(body("time.time()  # dt: ignore[DT101] thrown away\nyield ctx.call_activity(work)")).findings
        == []
    )
    report = lint(body("time.time()  # dt: ignore[DT102] thrown away\nyield ctx.call_activity(work)"))
    assert sorted(codes(report)) == ["DT101", "DT901"]


@pytest.mark.parametrize(
    "text",
    [
        "at = str(  # dt: ignore[DT101] thrown away\n    time.time()\n)",
        "at = str(\n    time.time()\n)  # dt: ignore[DT101] thrown away",
        "at = str(\n    time.time()  # dt: ignore[dt101, DT102] thrown away\n    + random.random()\n)",
    ],
)
def test_an_ignore_is_for_the_statement_that_it_begins_or_ends(text, lint):
    assert "DT101" not in codes(lint(body(text + "\nyield ctx.call_activity(work)")))


def test_an_ignore_inside_a_statement_is_for_its_line_alone(lint):
    text = "at = str(\n    time.time() +\n    1  # dt: ignore[DT101] thrown away\n)"
    assert codes(lint(body(text + "\nyield ctx.call_activity(work)"))) == ["DT101", "DT901"]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# dt: ignore the clock", "an ignore without a code ignores nothing"),
        ("# dt: ignore[DT999] the clock", "there is no rule `DT999` to ignore"),
        ("# dt: ignore[DT101,DT102] the clock", "`DT102` is not found here"),
    ],
)
def test_an_ignore_that_ignores_nothing_says_why(comment, message, lint):
    report = lint(body(f"time.time()  {comment}\nyield ctx.call_activity(work)"))
    [found] = [found for found in report.findings if found.code == "DT901"]
    assert found.message.startswith(message)


def test_an_ignore_in_a_string_is_none(lint):
    assert lint("text = '# dt: ignore[DT101] no comment'\n").findings == []


# -- settings


def test_settings_come_from_pyproject(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "flow.py").write_text(
        body("time.sleep(1)\nyield ctx.call_activity(work, input=time.time())")
    )
    (tmp_path / "other.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    settings = tmp_path / "pyproject.toml"
    settings.write_text('[tool.dt-testkit.lint]\npaths = ["src"]\nignore = ["DT104"]\n')
    monkeypatch.chdir(tmp_path)
    assert [(found.path, found.code) for found in lint_paths().findings] == [
        (str(Path("src/flow.py")), "DT101")
    ]
    settings.write_text('[tool.dt-testkit.lint]\nexclude = ["src/"]\n')
    assert {found.path for found in lint_paths().findings} == {"other.py"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = []", "no setting 'nonsense'"),
        ('select = "DT101"', "select .* is a list of strings"),
        ('select = ["DT999"]', "No rule begins with 'DT999'"),
        ("select = [", "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused(text, message, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(f"[tool.dt-testkit.lint]\n{text}\n", encoding="latin-1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DurableTestError, match=message):
        lint_paths(["."])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.dt-testkit.lnt]", r"[tool.dt-testkit.lnt] is not read: did you mean [tool.dt-testkit.lint]?"),
        ("[tool.dt_testkit.lint]", "[tool.dt_testkit] is not read: did you mean [tool.dt-testkit]?"),
        ("[tool.dt-testkit]\npaths = []", "[tool.dt-testkit.paths] is not read"),
        (
            '[tool.dt-testkit.lint]\nignore = ["DT1O1"]',
            "ignore in [tool.dt-testkit.lint]: No rule begins with 'DT1O1': did you mean DT101?",
        ),
    ],
)
def test_a_setting_that_is_misspelt_is_refused_with_its_place(text, message, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DurableTestError) as caught:
        lint_paths(["."])
    assert f"pyproject.toml: {message}" in str(caught.value)


def test_tables_of_other_tools_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.testkit]\n[tool.ruff.lint]\n[tool.dt.lint]\n")
    (tmp_path / "flow.py").touch()
    monkeypatch.chdir(tmp_path)
    assert lint_paths().ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "DT1O1"], "No rule begins with 'DT1O1': did you mean DT101?"),
        (["--ignore", "DT11l"], "No rule begins with 'DT11L': did you mean DT111?"),
        (["--select="], "--select names codes of rules, such as DT101,DT102, and is empty"),
        (["--ignore", ","], "--ignore names codes of rules, such as DT101,DT102, and is empty"),
    ],
)
def test_an_option_that_names_no_rule_is_refused(arguments, message, shell):
    Path("flow.py").touch()
    result = shell("flow.py", *arguments)
    assert (result.exit_code, message in result.output) == (2, True)


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\ndt-testkit = 3", "[tool.dt-testkit]\nlint = 3"])
def test_settings_that_are_no_table_are_refused(text, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DurableTestError, match=r"is a table, \[tool"):
        lint_paths(["."])


def test_codes_in_settings_may_be_in_small_letters(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.dt-testkit.lint]\nignore = ["dt101"]\n')
    (tmp_path / "flow.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    monkeypatch.chdir(tmp_path)
    assert lint_paths().findings == []


# -- the shell


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def shell(*arguments: str):
        return CliRunner().invoke(main, ["lint", *arguments])

    return shell


def test_the_exit_status_says_whether_something_was_found(shell):
    Path("clean.py").write_text(body("yield ctx.call_activity(work)"))
    Path("wrong.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    Path("note.py").write_text(body("exec(order)\nyield ctx.call_activity(work)"))
    assert shell("clean.py").exit_code == 0
    assert shell("note.py").exit_code == 0
    assert shell("wrong.py").exit_code == 1
    assert shell("wrong.py", "--ignore", "dt101").exit_code == 0
    assert shell("nowhere.py").exit_code == 2
    assert shell("clean.py", "--select", "DT999").exit_code == 2


def test_findings_as_json_have_the_agreed_fields(shell):
    Path("wrong.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    [found] = json.loads(shell("wrong.py", "--format", "json").output)
    assert list(found) == ["path", "line", "column", "code", "severity", "message", "route"]
    assert (found["path"], found["line"], found["code"]) == ("wrong.py", LINES_BEFORE + 1, "DT101")
    assert found["route"] == [f"wrong.py:{LINES_BEFORE + 1} flow"]


def test_findings_as_sarif_name_their_rules(shell):
    Path("wrong.py").write_text(
        "import time\ndef now():\n    return time.time()\n"
        + body("yield ctx.call_activity(work, input=now())")
    )
    [run] = json.loads(shell("wrong.py", "--format", "sarif").output)["runs"]
    [result] = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "DT101"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 12}
    steps = result["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["location"]["message"]["text"] for step in steps] == ["flow", "now"]


def test_findings_for_github_are_one_line_each(shell):
    Path("wrong.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    [line] = shell("wrong.py", "--format", "github").output.splitlines()
    assert line.startswith(f"::error file=wrong.py,line={LINES_BEFORE + 1},col=")
    assert ",title=DT101::`time.time()`" in line


# -- fixes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("at = datetime.utcnow()  # ä", "at = ctx.current_utc_datetime  # ä"),
        (
            "at = datetime.now(timezone.utc)",
            "at = ctx.current_utc_datetime.replace(tzinfo=timezone.utc)",  # it knows its zone, as before
        ),
        (
            "at = datetime.now(tz=timezone.utc)",
            "at = ctx.current_utc_datetime.replace(tzinfo=timezone.utc)",
        ),
        ("at = str(uuid.uuid4())", "at = ctx.new_uuid()"),
        ("at = 'ä', f'order-{uuid.uuid4()}'", "at = 'ä', f'order-{ctx.new_uuid()}'"),
        ("time.sleep(order + 1)", "yield ctx.create_timer(timedelta(seconds=order + 1))"),
        (
            "time.sleep(  # why\n    (1\n     + order),\n)",
            "yield ctx.create_timer(timedelta(seconds=  # why\n    (1\n     + order),\n))",
        ),
        ("at = (datetime\n      .utcnow())", "at = (ctx.current_utc_datetime)"),
    ],
)
def test_a_fix_changes_nothing_else_and_leaves_no_finding(before, after, lint, tmp_path):
    rest = "\ndef others():\n    return datetime, time, uuid\nyield ctx.call_activity(work)"
    report = lint(body(before + rest))
    assert len(report.findings) == 1
    assert len(fix_paths(report, root=tmp_path)) == 1
    assert (tmp_path / "flow.py").read_text() == body(after + rest)
    assert lint_paths([tmp_path], root=tmp_path).findings == []


def test_a_fix_adds_the_import_that_it_needs(tmp_path):
    file = tmp_path / "flow.py"
    file.write_bytes(
        b'"""Waits."""\r\nimport time\r\n\r\n\r\n'
        b"def flow(ctx):\r\n    time.sleep(3)\r\n    yield ctx.create_timer(1)\r\n"
    )
    fix_paths(lint_paths([file], root=tmp_path), root=tmp_path)
    fixed = file.read_bytes()
    assert fixed.startswith(b'"""Waits."""\r\nfrom datetime import timedelta\r\n\r\n\r\ndef flow')
    assert b"    yield ctx.create_timer(timedelta(seconds=3))\r\n" in fixed
    ast.parse(fixed)


@pytest.mark.parametrize(
    "text",
    [
        "at = uuid.uuid4()",
        "at = uuid.uuid4().hex",
        "at = datetime.now()",
        "at = time.sleep(1)",
        "at = time.time()",
        "time.sleep(n := 1)",
        "(time.sleep)(1)",
        "at = str(  # why\n    uuid.uuid4())",
        "def wait(): time.sleep(1)\nwait()",
        "def now(ctx=None): return datetime.utcnow()\nnow(ctx)",
        "timedelta = order\ntime.sleep(1)",
    ],
)
def test_what_is_not_mechanical_is_left_alone(text, lint, tmp_path):
    report = lint(body(text + "\nyield ctx.call_activity(work)"))
    assert len(report.findings) == 1
    assert fix_paths(report, root=tmp_path) == []


def test_the_shell_fixes_and_looks_again(shell):
    Path("flow.py").write_text(body("time.sleep(1)\nyield ctx.call_activity(work)"))
    assert shell("flow.py", "--fix").exit_code == 0
    assert "yield ctx.create_timer(timedelta(seconds=1))" in Path("flow.py").read_text()


FIXABLE = "time.sleep(1); at = datetime.utcnow()\nyield ctx.call_activity(work)"


def test_the_shell_tells_each_line_that_it_rewrote_and_warns_of_a_new_timer(shell):
    Path("flow.py").write_text(body(FIXABLE))
    result = shell("flow.py", "--fix")
    line = f"flow.py:{LINES_BEFORE + 1}"
    assert result.stderr.splitlines()[:3] == [
        f"{line} DT104 time.sleep(1) -> yield ctx.create_timer(timedelta(seconds=1))",
        f"{line} DT101 datetime.utcnow() -> ctx.current_utc_datetime",
        "Fixed 2 findings.",
    ]
    assert "A timer is a new step: instances in flight fail on it." in result.stderr
    Path("flow.py").write_text(body(FIXABLE.removeprefix("time.sleep(1); ")))
    assert "timer" not in shell("flow.py", "--fix").stderr


@pytest.mark.parametrize("options", [["--diff"], ["--fix", "--diff"]])
def test_the_shell_shows_what_it_would_fix_and_changes_nothing(options, shell):
    Path("flow.py").write_text(body(FIXABLE))
    result = shell("flow.py", *options)
    assert result.exit_code == 1
    assert Path("flow.py").read_text() == body(FIXABLE)
    rows = result.stdout.splitlines()
    assert rows[:2] == ["--- a/flow.py", "+++ b/flow.py"]
    assert [row for row in rows[2:] if row.startswith(("+", "-"))] == [
        "-import time",
        "-from datetime import datetime, timedelta, timezone",
        "+from datetime import timedelta, timezone",
        "-    time.sleep(1); at = datetime.utcnow()",
        "+    yield ctx.create_timer(timedelta(seconds=1)); at = ctx.current_utc_datetime",
    ]
    assert result.stderr == "--fix would mend 2 findings; nothing was changed.\n"


def test_the_shell_names_the_helpers_in_which_a_context_would_let_it_fix_more(shell):
    helpers = """
from datetime import datetime, timedelta
import random

def due(days{}):
    return datetime.utcnow() + timedelta(days=days)

def key():
    return random.random()

def local(ctx=None):
    return datetime.utcnow()

def flow(ctx, order):
    yield ctx.create_timer(due(3{}))
    yield ctx.create_timer(due(4{}))
    yield ctx.call_activity("work", input=[key(), local(ctx)])
"""
    hint = "flow.py:6 due: give the helper a ctx parameter, then --fix can mend it.\n"
    Path("flow.py").write_text(helpers.format("", "", ""))
    assert hint not in shell("flow.py").stderr
    assert shell("flow.py", "--fix").stderr == hint
    assert shell("flow.py", "--diff").stderr == f"--fix would mend 0 findings; nothing was changed.\n{hint}"
    Path("flow.py").write_text(helpers.format(", ctx", ", ctx", ", ctx"))
    assert "Fixed 1 finding." in (told := shell("flow.py", "--fix").stderr)
    assert hint not in told


def test_the_help_tells_what_is_looked_at_when_nothing_is_named(shell):
    told = " ".join(shell("--help").stdout.split())
    assert "names, or else the directory of pyproject.toml, or else the current directory." in told


# -- this project


def test_the_application_is_clean():
    assert list(lint_paths([ROOT / "src" / "workflows"], root=ROOT).findings) == []


def test_the_page_is_rendered_from_the_table():
    assert (ROOT / PAGE).read_text() == render((ROOT / PAGE).read_text())


def test_the_hook_for_pre_commit_runs_lint():
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert re.search(r"^  entry: dt-testkit lint$", hook, re.MULTILINE)


def test_a_package_that_imports_its_modules_by_its_own_name_is_followed(lint):
    report = lint(
        {
            "shop/__init__.py": "from shop import steps\n\nMODULES = (steps,)\n",
            "shop/steps.py": "import time\n\ndef stamp():\n    return time.time()\n",
            "flows.py": """\
                from shop import steps, MODULES

                def flow(ctx):
                    yield ctx.call_activity("work", input=steps.stamp())
            """,
        }
    )
    assert [(found.path, found.code) for found in report.findings] == [("shop/steps.py", "DT101")]


def test_an_import_goes_below_the_comments_at_the_top(tmp_path):
    file = tmp_path / "flow.py"
    file.write_text(
        "#!/usr/bin/env python\ndef flow(ctx):\n    from time import sleep\n"
        "    sleep(1)\n    yield ctx.create_timer(1)\n"
    )
    fix_paths(lint_paths([file], root=tmp_path), root=tmp_path)
    assert file.read_text().splitlines()[:2] == ["#!/usr/bin/env python", "from datetime import timedelta"]


def test_code_that_is_nested_too_deeply_is_a_note(lint):
    chain = "if order == 0:\n    pass\n" + "".join(f"elif order == {n}:\n    pass\n" for n in range(1, 600))
    report = lint(body(chain + "yield ctx.call_activity(work)"))
    assert [(found.code, found.severity, found.line) for found in report.findings] == [
        ("DT900", "note", LINES_BEFORE)
    ]


@pytest.mark.parametrize(
    ("encoding", "newline"), [("latin-1", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r"), ("utf-8", "\n")]
)
def test_a_fix_keeps_the_encoding_and_the_line_ends(encoding, newline, tmp_path):
    head = f"# coding: {encoding.removesuffix('-sig')}\nimport time, os  # é\n"
    flow = "def flow(ctx):\n    at = 'é'; time.sleep(1)\n    yield ctx.create_timer(at)\n"
    fixed = flow.replace("time.sleep(1)", "yield ctx.create_timer(timedelta(seconds=1))")
    file = tmp_path / "flow.py"
    file.write_bytes((head + flow).replace("\n", newline).encode(encoding))
    assert len(fix_paths(lint_paths([file], root=tmp_path), root=tmp_path)) == 1
    expected = head + "from datetime import timedelta\n" + fixed  # a comment keeps an import
    assert file.read_bytes() == expected.replace("\n", newline).encode(encoding)
    assert fix_paths(lint_paths([file], root=tmp_path), root=tmp_path) == []


def test_a_file_that_cannot_be_rewritten_is_named(tmp_path):
    file = tmp_path / "flow.py"
    file.write_text(body("time.sleep(1)\nyield ctx.call_activity(work)"))
    report = lint_paths([file], root=tmp_path)
    file.unlink()
    with pytest.raises(DurableTestError, match=r"flow\.py cannot be rewritten: No such file"):
        fix_paths(report, root=tmp_path)


def test_an_import_for_type_checkers_alone_is_not_used_by_a_fix(tmp_path):
    file = tmp_path / "flow.py"
    file.write_text(
        "import time\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from datetime import timedelta\n"
        "def flow(ctx):\n    time.sleep(1)\n    yield ctx.create_timer(1)\n"
    )
    fix_paths(lint_paths([file], root=tmp_path), root=tmp_path)
    assert file.read_text().splitlines()[1] == "from datetime import timedelta"


IMPORTS = [  # before, after, what else is in the module
    ("import time", "", ""),
    ("import time, os", "import os", ""),
    ("import os, time", "import os", ""),
    ("import os, time, sys", "import os, sys", ""),
    ("import time as t, uuid as u", "", ""),
    ("import os, time as t, uuid as u, sys", "import os, sys", ""),
    ("import time as t, os, sys, uuid as u", "import os, sys", ""),
    ("import os, time as t, uuid as u", "import os", ""),
    ("import time as t, uuid as u, os", "import os", ""),
    ("import os.path, time", "import os.path", ""),
    ("from time import sleep", "", ""),
    ("from time import sleep, gmtime", "from time import gmtime", ""),
    ("from time import (\n    gmtime,\n    sleep,\n)", "from time import (\n    gmtime,\n)", ""),
    ("from time import (\n    sleep,\n    gmtime,\n)", "from time import (\n    gmtime,\n)", ""),
    ("from time import (gmtime, \\\n    sleep)", "from time import (gmtime)", ""),
    ("if True:\n    import time\n    x = 1", "if True:\n    x = 1", ""),
    ("import time", "", '"""It takes time."""'),
    *(
        (stays, stays, more)
        for stays, more in [
            ("import time", "later = lambda: time.monotonic()"),
            ("import time", "def later(at: 'time.struct_time'): ..."),
            ("import time", "__all__ = ['flow', 'time']"),
            ("import time", "def later():\n    global time\n    time = 1"),
            ("import time", 'def later():\n    """>>> time.sleep(1)"""'),
            ("import time  # noqa: F401", ""),
            ("import time; x = 1", ""),
            ("try:\n    import time\nexcept ImportError:\n    pass", ""),
            ("from time import *", ""),
        ]
    ),
    ("import uuid\nimport time", "import uuid", ""),  # which was not used before
]


@pytest.mark.parametrize(("before", "after", "more"), IMPORTS)
def test_a_fix_takes_away_the_import_that_it_made_unused_and_no_other(before, after, more, tmp_path):
    file = tmp_path / "flow.py"
    use = "t.sleep(1)" if "as t" in before else "sleep(1)" if "from" in before else "time.sleep(1)"
    ids = "\n    a = str(u.uuid4())" if "as u" in before else ""
    rest = f"\n{more}\ndef flow(ctx):\n    {{}}{ids}\n    yield ctx.create_timer(1)\n"
    file.write_text(before + rest.format(use))
    fix_paths(lint_paths([file], root=tmp_path), root=tmp_path)
    timer = "yield ctx.create_timer(timedelta(seconds=1))"
    fixed = (after + rest.format(timer)).replace("str(u.uuid4())", "ctx.new_uuid()")
    found = file.read_text().replace("from datetime import timedelta\n", "")
    assert found.strip("\n") == fixed.strip("\n")
    compile(file.read_text(), "flow.py", "exec")


def test_an_import_in_a_function_goes_and_one_of_a_package_stays(lint, tmp_path):
    source = "def flow(ctx):\n    import time\n    time.sleep(1)\n    yield ctx.create_timer(1)\n"
    report = lint({"flow.py": source, "shop/__init__.py": source})
    fix_paths(report, root=tmp_path)
    assert "import time\n" not in (tmp_path / "flow.py").read_text()
    assert "    import time\n" in (tmp_path / "shop/__init__.py").read_text()


@pytest.mark.parametrize(("result", "expected"), [("1", []), ("time.time()", ["DT101"])])
@pytest.mark.parametrize("how", ["@traced", "@traced(name='x')"])
def test_a_decorator_that_may_be_called_first_is_no_orchestrator(how, result, expected, lint):
    source = f"""
        import time
        from durabletask.task import OrchestrationContext

        def traced(function=None, *, name=None):
            def wrap(function):
                def inner(ctx, order):
                    yield ctx.call_activity("traced", input={result})
                    return (yield from function(ctx, order))
                return inner
            if function is not None:
                return wrap(function)
            return wrap

        {how}
        def flow(ctx: OrchestrationContext, order):
            yield ctx.call_activity("work")
    """
    assert [found.code for found in lint(source).findings if found.severity != "note"] == expected


def test_what_takes_no_context_is_no_orchestrator_though_a_decorator_gives_it(lint):
    source = """
        def holding(function):
            def held():
                return function
            return held

        @holding
        def flow(ctx, order):
            yield ctx.call_activity("work")
    """
    assert codes(lint(source)) == []


def test_a_package_in_directories_that_are_no_packages_is_followed(lint):
    report = lint(
        {
            "org/team/shop/steps.py": "import time\ndef now():\n    return time.time()\n",
            "flow.py": "from org.team.shop.steps import now\n"
            "def flow(ctx):\n    yield ctx.call_activity('work', input=now())\n",
        }
    )
    assert [(found.path, found.code) for found in report.findings] == [("org/team/shop/steps.py", "DT101")]


# -- what is followed


@pytest.mark.parametrize(
    "source",
    [
        """\
        class Base:
            def run(self, ctx, _):
                yield ctx.call_activity("work", input=self.key())
            def key(self):
                raise NotImplementedError
        class Stamped(Base):
            def key(self):
                return time.time()
        worker.add_orchestrator(Stamped().run)
        """,
        """\
        class Clock:
            def __init__(self, read):
                self.read = read
            def now(self):
                return self.read()
        def flow(ctx, _):
            yield ctx.call_activity("work", input=Clock(time.time).now())
        """,
        """\
        class Clock:
            def __init__(self, read=time.time):
                self.read = read
            def now(self):
                return self.read()
        def flow(ctx, _):
            yield ctx.call_activity("work", input=Clock().now())
        """,
        """\
        from dataclasses import dataclass
        @dataclass
        class Clock:
            read: object
            def now(self):
                return self.read()
        def flow(ctx, _):
            yield ctx.call_activity("work", input=Clock(time.time).now())
        """,
        """\
        class Steps:
            def __init__(self, ctx):
                self.ctx = ctx
            def run(self):
                at = time.time()
                yield self.ctx.call_activity("work", input=at)
        def flow(ctx, _):
            yield from Steps(ctx).run()
            yield ctx.create_timer(1)
        """,
        """\
        class Basket:
            def __len__(self):
                return int(time.time())
        def flow(ctx, _):
            if Basket():
                yield ctx.call_activity("work")
        """,
    ],
)
def test_what_an_object_does_is_followed(source, lint):
    assert codes(lint("import time\n" + textwrap.dedent(source))) == ["DT101"]


def test_a_package_without_an_init_is_followed_and_one_with_it_comes_first(lint):
    hazard = "import time\n\ndef stamp():\n    return time.time()\n"
    report = lint(
        {
            "src/steps/__init__.py": "",
            "src/steps/clock.py": hazard,
            "src/parts/inner/clock.py": hazard,
            "tests/steps/test_clock.py": "",  # of the same name, and nearer
            "tests/flows.py": """\
                import parts.inner.clock
                from steps import clock

                def flow(ctx):
                    yield ctx.call_activity("work", input=clock.stamp())
                    yield ctx.call_activity("work", input=parts.inner.clock.stamp())
            """,
        }
    )
    assert [found.path for found in report.findings] == ["src/parts/inner/clock.py", "src/steps/clock.py"]


def test_a_directory_that_has_the_name_of_a_package_does_not_hide_it(lint):
    report = lint(
        {
            "docker/entrypoint.py": "",
            "flow.py": """\
                import docker

                def flow(ctx):
                    yield ctx.call_activity("work", input=docker.from_env())
            """,
        }
    )
    assert codes(report) == ["DT105"]


# -- what is real code, and no hazard


@pytest.mark.parametrize(
    "text",
    [
        "yield ctx.task_all([ctx.call_activity(work)])",
        "yield ctx.call_activity_with_retry(work, order)",
        "import azure.durable_functions as df\nyield ctx.call_entity(df.EntityId('cart', order), 'add')",
        "value = yield ctx.call_activity(work, input=str(ctx.new_guid()))",
        "from collections import deque\ntasks = deque([ctx.call_activity(work)])\nyield tasks.popleft()",
        "from sdk import CompositeTask\nclass Mine(CompositeTask): ...\nyield Mine([])",
        "from pydantic import BaseModel, Field\nclass Order(BaseModel):\n"
        "    id: str = Field(default_factory=lambda: str(uuid.uuid4()))\n    lines: list = []\n"
        "def add(order: Order):\n    order.lines.append(order.id)\nadd(order)\nyield ctx.call_activity(work)",
    ],
)
def test_what_real_code_does_is_no_hazard(text, lint):
    assert [found.message for found in lint(body(text)).findings if found.severity != "note"] == []


CHARGE = "paid = ctx.call_activity(work, input=order)"
TIMER = "yield ctx.create_timer(timedelta(1))"
EACH = "[ctx.call_activity(work, input=one) for one in order]"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{CHARGE}\nreturn paid.get_result()", 1),
        (f"{CHARGE}\n{TIMER}\nreturn paid.get_result()", 1),
        (f"{CHARGE}\nif order:\n    {TIMER}\n    return paid.get_result()", 1),
        (f"{TIMER}\nreturn ctx.call_activity(work, input=order).get_result()", 2),
        ("paid = ctx.call_sub_orchestrator(flow, input=order)\nreturn paid.get_result()", 1),
        ("came = ctx.wait_for_external_event('go')\nreturn came.get_result()", 1),
        (f"tasks = {EACH}\nreturn [task.get_result() for task in tasks]", 1),
        (f"tasks = {EACH}\n{TIMER}\nreturn sum(task.get_result() for task in tasks)", 1),
        (f"{CHARGE}\n{TIMER}\nreturn paid", 3),
        (f"{CHARGE}\nreturn paid", 2),
        ("return ctx.call_activity(work, input=order)", 1),
        (f"{CHARGE}\n{TIMER}\nreturn f'got {{paid}}'", 3),
        (f"{CHARGE}\n{TIMER}\nreturn str(paid)", 3),
        (f"{CHARGE}\n{TIMER}\nreturn paid['id']", 3),
    ],
)
def test_a_task_in_the_place_of_its_result_is_found_in_its_line(text, line, lint):
    (found,) = lint(body(text)).findings
    assert (found.code, found.line - LINES_BEFORE) == ("DT111", line)


@pytest.mark.parametrize("given", ["paid", "{'paid': paid}", "[paid]"])
def test_a_task_that_is_given_as_an_input_is_found(given, lint):
    assert codes(lint(body(f"{CHARGE}\nyield ctx.call_activity(work, input={given})"))) == ["DT122"]


@pytest.mark.parametrize(
    "text",
    [
        f"{CHARGE}\nyield paid\nreturn paid.get_result()",
        f"{CHARGE}\nif order:\n    yield paid\nreturn paid.get_result()",
        f"{CHARGE}\nyield when_all([paid])\nreturn str(paid.get_result())",
        f"{CHARGE}\ngroup = when_all([paid])\nyield paid\nreturn group.get_result()",
        f"{CHARGE}\n{TIMER}\nif paid.is_complete:\n    return paid.get_result()",
        f"{CHARGE}\nwhile not paid.is_complete:\n    {TIMER}\nreturn paid.get_result()",
        f"def wait(task):\n    yield task\n{CHARGE}\nyield from wait(paid)\nreturn paid.get_result()",
        f"def both(*all):\n    return when_all(all)\n{CHARGE}\nyield both(paid)\nreturn paid.get_result()",
        f"{CHARGE}\npaid = yield paid\nreturn [paid['id'], str(paid), paid]",
        f"def wait():\n    yield paid\n{CHARGE}\nyield from wait()\nreturn paid.get_result()",
        f"def both():\n    return when_all([paid])\n{CHARGE}\nyield both()\nreturn paid.get_result()",
        "tasks = []\ndef wait():\n    yield when_all(tasks)\ntasks.append(ctx.call_activity(work, input=1))\n"
        "yield from wait()\nreturn [task.get_result() for task in tasks]",
        f"tasks = {EACH}\nyield when_all(tasks)\nreturn [task.get_result() for task in tasks]",
        f"tasks = {EACH}\nfor one in tasks:\n    yield one\nreturn sum(one.get_result() for one in tasks)",
        f"tasks = {EACH}\n{TIMER}\nreturn [task.get_result() for task in tasks if task.is_complete]",
        "def wait(task):\n    yield task\n    return True\n"
        "came = ctx.wait_for_external_event('go')\nwhile (yield from wait(came)):\n"
        "    yield ctx.call_activity(work, input=came.get_result())\n"
        "    came = ctx.wait_for_external_event('go')\n"
        "    if order:\n        break",
        "last = None\nfor one in order:\n    if last is not None:\n        seen = last.get_result()\n"
        "    last = ctx.call_activity(work, input=one)\n    yield last\nreturn seen",
        f"{CHARGE}\nkeep = {{'paid': paid}}\nyield keep['paid']\nreturn keep['paid'].get_result()",
        f"{CHARGE}\nlog = ctx.create_replay_safe_logger(logging.getLogger())\nlog.info(repr(paid))\n"
        "yield paid",
    ],
)
def test_a_task_whose_result_is_taken_after_it_was_waited_for_is_no_hazard(text, lint):
    assert codes(lint(body(text))) == []


def test_a_task_that_an_object_keeps_and_yields_is_no_hazard(lint):
    source = """
        class Gather:
            def __init__(self):
                self.tasks = []

            def add(self, task):
                self.tasks.append(task)
                return task

            def run(self):
                yield when_all(self.tasks)
        """
    taken = body(
        "group = Gather()\npaid = group.add(ctx.call_activity(work, input=order))\nyield from group.run()\n"
        "return paid.get_result()"
    )
    assert codes(lint(taken + textwrap.dedent(source))) == []


def test_a_plain_function_whose_decorator_yields_what_it_returns_is_no_hazard(lint):
    source = body("yield ctx.call_activity(work)") + textwrap.dedent(
        """
        def orchestrator(function):
            def run(ctx, order):
                return (yield function(ctx, order))
            return run

        @orchestrator
        def charged(ctx: OrchestrationContext, order):
            return ctx.call_activity(work, input=order)

        def register_more(worker):
            worker.add_orchestrator(charged)
        """
    )
    assert [found.code for found in lint(source).findings if found.severity != "note"] == []


@pytest.mark.parametrize(
    "text",
    [
        "import itertools\nfor _ in itertools.repeat(None):\n    yield ctx.call_activity(work)",
        "for i in iter(int, 1):\n    yield ctx.call_activity(work)",
        "done = False\nwhile not done:\n    yield ctx.call_activity(work)",
        "more = True\nwhile more:\n    yield ctx.call_activity(work)",
        "def poll(ctx):\n    yield ctx.call_activity(work)\n    yield from poll(ctx)\nyield from poll(ctx)",
        "for i in iter(lambda: 0, 1):\n    yield ctx.call_activity(work)",
        "import itertools\nfor _ in itertools.count():\n    yield ctx.call_activity(work)",
        "from itertools import cycle\nfor _ in cycle(order):\n    yield ctx.call_activity(work)",
        "import itertools\nn = itertools.count(1)\nfor _ in n:\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n, _ in enumerate(i.repeat(1)):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in zip(i.count(), i.cycle('a')):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in map(str, i.count()):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in (n * 2 for n in i.count()):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in i.chain(order, i.repeat(1)):\n    yield ctx.call_activity(work)",
        "def a(ctx):\n    yield ctx.call_activity(work)\n    yield from b(ctx)\n"
        "def b(ctx):\n    yield from a(ctx)\nyield from a(ctx)",
        "def a(ctx):\n    yield from b(ctx)\ndef b(ctx):\n    return (yield from c(ctx))\n"
        "def c(ctx):\n    yield ctx.call_activity(work)\n    result = yield from a(ctx)\n"
        "    return result\nyield from a(ctx)\nyield from b(ctx)",
    ],
)
def test_a_loop_that_never_ends_is_found_however_it_is_written(text, lint):
    assert codes(lint(body(text))) == ["DT115"]


@pytest.mark.parametrize(
    "text",
    [
        "import itertools\nfor _ in itertools.repeat(None, 3):\n    yield ctx.call_activity(work)",
        "import itertools\nfor _ in itertools.repeat(None):\n    yield ctx.call_activity(work)\n    break",
        "for i in iter(int, 0):\n    yield ctx.call_activity(work)",
        "for i in iter(order.pop, 1):\n    yield ctx.call_activity(work)",
        "for i in iter(lambda: 1, 1):\n    yield ctx.call_activity(work)",
        "for i in iter(lambda: order.pop(), 1):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n, _ in zip(i.count(), order):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in i.islice(i.count(), 3):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in i.takewhile(order, i.count()):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in enumerate(i.repeat(1, 3)):\n    yield ctx.call_activity(work)",
        "import itertools as i\nfor n in i.count():\n    yield ctx.call_activity(work)\n"
        "    if n > 3:\n        break",
        "import itertools as i\nfor n in i.count():\n    yield ctx.call_activity(work)\n"
        "    ctx.continue_as_new(n)\n    return",
        "def a(ctx, n):\n    yield ctx.call_activity(work)\n    yield from b(ctx, n)\n"
        "def b(ctx, n):\n    if n > 3:\n        ctx.continue_as_new(n)\n        return\n"
        "    yield from a(ctx, n + 1)\nyield from a(ctx, order)",
        "def a(ctx, n):\n    if n:\n        yield from b(ctx, n)\n"
        "def b(ctx, n):\n    yield from a(ctx, n - 1)\nyield from a(ctx, order)",
        "done = False\nwhile not done:\n    done = yield ctx.call_activity(work)",
        "done = False\nwhile not done:\n    yield ctx.call_activity(work)\n    break",
        "done = True\nwhile not done:\n    yield ctx.call_activity(work)",
        "done = False\nif order:\n    done = True\nwhile not done:\n    yield ctx.call_activity(work)\n"
        "    ctx.continue_as_new(order)\n    return",
        "done = False\ndef finish():\n    nonlocal done\n    done = True\n"
        "while not done:\n    yield ctx.call_activity(work)\n    finish()",
        "def walk(ctx, tree):\n    yield ctx.call_activity(work)\n    for each in tree:\n"
        "        yield from walk(ctx, each)\nyield from walk(ctx, order)",
        "def poll(ctx, n):\n    if n == 0:\n        return\n    yield ctx.call_activity(work)\n"
        "    yield from poll(ctx, n - 1)\nyield from poll(ctx, order)",
    ],
)
def test_a_loop_that_ends_is_no_endless_one(text, lint):
    assert "DT115" not in codes(lint(body(text)))


@pytest.mark.parametrize("given", ["safe, {'order': 1}", "logger=safe, extra={'order': 1}"])
def test_an_adapter_of_a_replay_safe_logger_does_not_repeat(given, lint):
    text = """
        safe = ctx.create_replay_safe_logger(logging.getLogger("x"))
        log = logging.LoggerAdapter({}, {{"order": 1}})
        log.info("x")
        yield ctx.call_activity(work)
    """
    text = textwrap.dedent(text).replace('{}, {{"order": 1}}', given)
    assert codes(lint(body(text))) == []
    assert codes(
        lint(body(text.replace("(safe", "(logging.getLogger()").replace("=safe", "=logging.getLogger()")))
    ) == ["DT116"]


# -- what is of other packages


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("client = Client('x')\nclient.fetch(order)\nclient.close()", "`elsewhere.Client.fetch()`"),
        ("Client('y').fetch(order)\nClient('y').fetch(order)", "`elsewhere.Client.fetch()`"),
        ("with Client('z') as k:\n    k.fetch(order)", "`with elsewhere.Client()`"),
        ("client = Client('x')\nwith client:\n    pass", "`with elsewhere.Client()`"),
        ("class Mine(Client): ...\nMine('x').fetch(order)", "`elsewhere.Client.fetch()`"),
        (
            "class Mine(Client): ...\nclass My(Mine): ...\nmine = My()\nmine.fetch(1)",
            "`elsewhere.Client.fetch()`",
        ),
        ("def use(client: Client):\n    client.fetch(1)\nuse(order)", "`elsewhere.Client.fetch()`"),
    ],
)
def test_a_class_of_another_package_is_noted_once_when_a_method_is_called(text, name, lint):
    report = lint(body(f"from elsewhere import Client\n{text}\nyield ctx.call_activity(work)"))
    assert codes(report) == ["DT900"]
    assert report.findings[0].message.startswith(f"{name} is of another package: ")


def test_to_make_an_object_of_another_package_is_no_note(lint):
    text = "from elsewhere import Order\nyield ctx.call_activity(work, input=Order(1).total)"
    assert codes(lint(body(text))) == []


def test_what_a_base_of_another_package_does_with_the_world_is_a_hazard(lint):
    text = "class Shop(requests.Session): ...\nShop().get('http://x')\nyield ctx.call_activity(work)"
    assert codes(lint(body(text))) == ["DT105"]


SUPER = """
from durabletask.task import OrchestrationContext
import time
{above}
class Mine({bases}):
    def run(self, ctx):
        return {use}

def flow(ctx: OrchestrationContext, order):
    yield ctx.call_activity("work", input=Mine().run(ctx))
"""
BASE = "class Base:\n    def start(self):\n        return {}\n"


@pytest.mark.parametrize(
    ("above", "bases", "use", "expected"),
    [
        ("from elsewhere import Base", "Base", "super().start()", ["DT900"]),
        ("import elsewhere", "elsewhere.Base", "super(Mine, self).start()", ["DT900"]),
        ("from .gone import Base", "Base", "super().start()", ["DT900"]),
        ("from elsewhere import Base\nclass Mid(Base): ...", "Mid", "super().start()", ["DT900"]),
        ("from requests import Session", "Session", "super().get('x')", ["DT105"]),
        (BASE.format("time.time()"), "Base", "super().start()", ["DT101"]),
        (
            BASE.format("self.at()\n    def at(self):\n        return 1"),
            "Base",
            "super().start()\n    def at(self):\n        return time.time()",
            ["DT101"],
        ),
        (
            "class Mixin:\n    def start(self):\n        return super().start()\n"
            + BASE.format("time.time()"),
            "Mixin, Base",
            "self.start()",
            ["DT101"],
        ),
        ("class Other: ...\n" + BASE.format("time.time()"), "Other, Base", "super().start()", ["DT101"]),
        (
            "class Base:\n    @property\n    def at(self):\n        return time.time()\n",
            "Base",
            "super().at",
            ["DT101"],
        ),
        (BASE.format("1"), "Base", "super().start()", []),
        ("from abc import ABC", "ABC", "super().__repr__()", []),
        ("", "object", "super().__init__()", []),
        ("from elsewhere import Base", "Base", "super().__init__(1)", []),
    ],
)
def test_super_is_followed_into_the_project_and_what_is_outside_of_it_is_a_note(
    above, bases, use, expected, lint
):
    assert codes(lint(SUPER.format(above=above, bases=bases, use=use))) == expected


# -- places


def test_a_column_counts_characters(lint):
    [found] = lint(body("at = 'äöü', time.time()\nyield ctx.call_activity(work)")).findings
    assert found.column == len("    at = 'äöü', ") + 1


def test_sarif_names_files_by_uri_and_says_what_columns_are(shell):
    Path("my flows").mkdir()
    Path("my flows", "ä.py").write_text(body("yield ctx.call_activity(work, input=time.time())"))
    [run] = json.loads(shell("my flows", "--format", "sarif").output)["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "my%20flows/%C3%A4.py"


EVERYTHING = """
import elsewhere, logging, time
from durabletask.task import OrchestrationContext

def now():
    return time.time()

def flow(ctx: OrchestrationContext, order):
    elsewhere.call(ctx)
    now()
    logging.info("x")
    exec(order)
    time.time()  # dt: ignore[DT101]
    yield ctx.call_activity("work")  # dt: ignore[DT102] nothing is random here
"""
SARIF = {  # what its schema allows and requires (*), of what is written here
    "": {"$schema", "version*", "runs*"},
    "runs": {"tool*", "columnKind", "results"},
    "tool": {"driver*"},
    "driver": {"name*", "version", "rules"},
    "rules": {"id*", "name", "shortDescription", "fullDescription", "defaultConfiguration"},
    "defaultConfiguration": {"level"},
    "results": {"ruleId", "ruleIndex", "level", "message*", "locations", "codeFlows"},
    "codeFlows": {"threadFlows*"},
    "threadFlows": {"locations*"},
    "location": {"physicalLocation", "message"},
    "locations": {"physicalLocation", "message", "location"},
    "physicalLocation": {"artifactLocation", "region"},
    "artifactLocation": {"uri"},
    "region": {"startLine", "startColumn"},
    **{key: {"text*"} for key in ["message", "shortDescription", "fullDescription"]},
}


def test_sarif_of_every_kind_of_finding_is_as_its_schema_says(shell):
    Path("all.py").write_text(EVERYTHING)
    Path("broken.py").write_text("def flow(:  # dt: yield")
    document = json.loads(shell(".", "--format", "sarif").output)
    found = {result["ruleId"]: result["level"] for result in document["runs"][0]["results"]}
    assert found == {
        "DT101": "error",
        "DT116": "warning",
        "DT900": "note",
        "DT901": "warning",
        "DT902": "warning",
    }

    def check(part, name):
        if isinstance(part, list):
            assert part, f"{name} is empty"
            for one in part:
                check(one, name)
        elif isinstance(part, dict):
            assert part.keys() <= {key.rstrip("*") for key in SARIF[name]}, name
            assert part.keys() >= {key.rstrip("*") for key in SARIF[name] if key.endswith("*")}, name
            for key, value in part.items():
                check(value, key)
        elif name == "level":
            assert part in ("error", "warning", "note")
        elif name in ("startLine", "startColumn"):
            assert part >= 1
        elif name == "uri":
            assert re.fullmatch(r"[\w./%-]+", part, re.ASCII)

    check(document, "")
    assert document["version"] == "2.1.0"


def test_a_path_that_is_a_loop_of_links_is_refused(shell):
    Path("self.py").symlink_to("self.py")
    result = shell("self.py")
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert "self.py does not exist" in result.output


def test_a_file_that_warns_when_it_is_compiled_is_read(lint):
    assert codes(lint(body(r"at = '\d', time.time()" + "\nyield ctx.call_activity(work)"))) == ["DT101"]


def test_lint_is_a_command_of_the_module(tmp_path):
    (tmp_path / "empty.py").touch()
    command = [sys.executable, "-m", "dt_testkit", "lint", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0 orchestrators in 1 file: clean\n")


# -- who registers a name


NIGHTLY = """
def nightly(ctx, day):
    claims = yield ctx.call_activity("open_claims", input=day)
    yield ctx.call_sub_orchestrator("settle", input=claims)

def settle(ctx, claim):
    yield ctx.call_activity(pay, input=claim)

def pay(ctx, claim): ...
"""
REGISTER = """
def register(worker):
    for orchestrator in (nightly, settle):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(pay)
"""


def told(report) -> list[tuple[str, str, str]]:
    return [(found.path, found.severity, found.message.partition(":")[0]) for found in report.findings]


@pytest.mark.parametrize("test", ["tests/night.py", "test_night.py", "night_test.py", "conftest.py"])
@pytest.mark.parametrize(
    "stub",
    [
        "task_hub.stub('open_claims')",
        "def open_claims(ctx, day): ...\n    task_hub.add_activity(open_claims)",
        "for name in load():\n        task_hub.stub(name)",
    ],
)
def test_what_only_tests_register_is_a_finding_in_what_the_application_registers(test, stub, lint):
    test_file = f"def test_a_night(task_hub):\n    {stub}\n    task_hub.run('nightly')\n"
    report = lint({"claims.py": NIGHTLY + REGISTER, test: test_file})
    assert told(report) == [("claims.py", "error", "the activity `open_claims`")]


def test_a_stub_of_an_orchestrator_does_not_register_it_for_the_application(lint):
    app = NIGHTLY.replace('"settle"', '"setle"') + REGISTER + "    worker.add_activity(open_claims)\n"
    app += "def open_claims(ctx, day): ...\n"
    test_file = "def test_a_night(task_hub):\n    task_hub.stub_orchestrator('setle')\n"
    report = lint({"claims.py": app, "tests/test_night.py": test_file})
    assert told(report) == [("claims.py", "error", "the orchestrator `setle`")]


def test_what_tests_register_counts_for_what_only_they_register(lint):
    test_file = """
def test_a_night(task_hub):
    def outer(ctx, day):
        yield ctx.call_activity("rates")
        yield ctx.call_activity("ratse")
    task_hub.stub("rates")
    task_hub.stub("open_claims")
    task_hub.add_orchestrator(outer)
    task_hub.add_orchestrator(nightly)
"""
    other = "def register(worker):\n    worker.add_activity(audit)\n\ndef audit(ctx, _): ...\n"
    tests = {"tests/test_night.py": f"from claims import nightly\n{test_file}"}
    stubs = {"tests/conftest.py": "def hub(task_hub):\n    for each in ('settle', 'pay'):\n"
             "        task_hub.stub(each)\n        task_hub.stub_orchestrator(each)\n"}  # fmt: skip
    report = lint({"claims.py": NIGHTLY, "other.py": other, **tests, **stubs})
    assert told(report) == [("tests/test_night.py", "error", "the activity `ratse`")]


def test_a_helper_is_judged_for_tests_and_for_the_application(lint):
    helper = "def ask(ctx):\n    return (yield ctx.call_activity('rates'))\n"
    use = "from helper import ask\ndef {0}(ctx, day):\n    yield from ask(ctx)\n"
    app = use.format("flow") + REGISTER.replace("(nightly, settle)", "[flow]") + "def pay(ctx, claim): ...\n"
    test_file = use.format("outer") + (
        "def test_outer(task_hub):\n    task_hub.add_orchestrator(outer)\n    task_hub.stub('rates')\n"
    )
    tests = {"helper.py": helper, "a/test_flow.py": test_file}
    assert told(lint(tests)) == []
    report = lint({**tests, "flow.py": app})
    assert [(found.line, found.severity) for found in report.findings] == [(2, "error")]
    assert report.findings[0].route == ("flow.py:3 flow", "helper.py:2 ask")


def test_a_registration_in_a_file_that_is_read_and_not_asked_for_counts(lint, tmp_path):
    test_file = """
from claims import nightly

def test_a_night(task_hub):
    task_hub.stub_orchestrator("other")
    task_hub.stub("open_claims")
    task_hub.run(nightly)
"""
    register = "from claims import nightly, settle, pay" + REGISTER
    lint({"claims.py": NIGHTLY + REGISTER, "tests/test_night.py": test_file})
    assert lint_paths([tmp_path / "tests/test_night.py"], root=tmp_path).findings == []
    lint({"claims.py": NIGHTLY, "app/setup.py": register, "tests/test_night.py": test_file})
    assert told(lint_paths([tmp_path / "tests/test_night.py"], root=tmp_path)) == [
        ("claims.py", "note", "no registration of the orchestrator `settle` was found, but not all files of "
         "the project were looked at."),
    ]  # fmt: skip
    lint({"tests/test_night.py": f"{test_file}\ndef more():\n    import app.setup\n"})
    assert lint_paths([tmp_path / "tests/test_night.py"], root=tmp_path).findings == []


MAIN = """
from claims import register

def main():
    with TaskHubGrpcWorker() as worker:
        register(worker)
"""
ADDS = "def more(worker):\n    worker.add_activity(print)\n"
PLAIN = "x = 1\n"


@pytest.mark.parametrize(
    ("asked", "files", "severity"),
    [
        (["claims.py"], {}, "error"),
        (["claims.py"], {"other.py": PLAIN, "tests/test_claims.py": ADDS}, "error"),
        (["claims.py"], {"other.py": ADDS}, "note"),
        (["claims.py", "main.py"], {"main.py": MAIN, "other.py": ADDS}, "error"),
        (["claims.py", "test_worker.py"], {"test_worker.py": MAIN, "other.py": ADDS}, "note"),
        (["claims.py", "a"], {"a/other.py": PLAIN, "b/other.py": ADDS}, "note"),
        (["claims.py"], {"a/b.py": ADDS, "pyproject.toml": "[tool.dt-testkit.lint]\nexclude=['a']"}, "error"),
        (["claims.py"], {"a/b.py": ADDS, "pyproject.toml": "[tool.dt-testkit.lint]\npaths=['a']"}, "note"),
        (["claims.py"], {"pyproject.toml": "[tool.dt-testkit.lint]\npaths=['claims.py', 'a']"}, "error"),
    ],
)
def test_that_nobody_registers_a_name_is_only_said_of_a_whole_project(asked, files, severity, tmp_path):
    write(tmp_path, {"claims.py": NIGHTLY + REGISTER, **files})
    report = lint_paths([tmp_path / each for each in asked], root=tmp_path)
    assert [found.severity for found in report.findings] == [severity]


def test_a_name_that_only_add_named_registers_in_its_file_is_known(lint):
    named = "def start(worker):\n    worker.add_named_activity('open_claims', print)\n"
    assert lint({"claims.py": NIGHTLY + REGISTER, "named.py": named}).findings == []


ENTITIES = """
from abc import ABC
from durabletask.entities import DurableEntity, EntityInstanceId
import outside

class Base(DurableEntity, ABC):
    def __init__(self):
        self.hook = print
    def put(self, amount): ...

class Budget(Base):
    def take(self, amount): ...
    def _own(self): ...

class Loose(DurableEntity):
    def __getattr__(self, name): ...

class Foreign(outside.Entity, DurableEntity): ...

@outside.decorated
class Decorated(DurableEntity): ...

class Plain: ...

def count(ctx, amount): ...

def register(worker):
    worker.add_orchestrator(flow)
    for entity in (Budget, Loose, Foreign, Decorated, Plain, count):
        worker.add_entity(entity)
    worker.add_entity(Budget, "purse")
    worker.add_entity(Budget, name="bag")
    worker.add_named_entity("sack", Budget)
    worker.add_entity(Budget, name="both")
    worker.add_entity(count, name="both")

def flow(ctx, day):
    yield ctx.call_entity(
"""


@pytest.mark.parametrize(
    "call",
    [
        *(f'EntityInstanceId("budget", "a"), "{name}"' for name in ("take", "put", "hook", "delete", "_own")),
        'EntityInstanceId("Budget", "a"), operation="take"',
        *(f'EntityInstanceId("{name}", "a"), "tak"' for name in ("loose", "foreign", "decorated", "plain")),
        *(f'EntityInstanceId("{name}", "a"), "tak"' for name in ("count", "both")),
        'EntityInstanceId("budget", "a"), day',
        'EntityInstanceId("budget", "a"), "get_state"',
        'f"@budget@{day}", "take"',
    ],
)
def test_an_operation_that_an_entity_has_or_may_have_is_no_finding(call, lint):
    assert [found.code for found in lint(ENTITIES.strip() + call + ")\n").findings] == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('EntityInstanceId("Budget", "a"), "tak"', "budget` has no operation `tak`, .*did you mean `take`?"),
        (
            'EntityInstanceId("budget", "a"), "Take"',
            "budget` has no operation `Take`, .*did you mean `take`?",
        ),
        ('EntityInstanceId("purse", "a"), operation="tak"', "purse` has no operation `tak`"),
        (
            'entity=EntityInstanceId(entity="bag", key="a"), operation="x"',
            "bag` has no operation `x`, .*mend",
        ),
        ('EntityInstanceId("sack", "a"), "tak"', "sack` has no operation `tak`"),
        ('EntityInstanceId("budgte", "a"), "take"', "the entity `budgte`: no worker knows it"),
        ('"budget", "take"', '`"budget"` is no id, .*write `EntityInstanceId'),
    ],
)
def test_an_operation_that_an_entity_does_not_have_is_a_finding(call, message, lint):
    call = ENTITIES.strip() + call + ")\n"
    for source in (call, call.replace("yield ctx.call_entity", "ctx.signal_entity").replace(
        "operation=", "operation_name=").replace("entity=E", "entity_id=E")):  # fmt: skip
        (found,) = lint(source).findings
        assert (found.code, found.severity) == ("DT120", "error")
        assert re.search(message, found.message)


def test_an_operation_that_only_the_class_of_a_test_has_is_a_finding_in_the_application(lint):
    source = ENTITIES.strip() + 'EntityInstanceId("budget", "a"), "tak")\n'
    test_file = """
from durabletask.entities import DurableEntity

class Budget(DurableEntity):
    def tak(self): ...

def test_budget(task_hub):
    task_hub.add_entity(Budget)
"""
    assert codes(lint({"app.py": source, "test_app.py": test_file})) == ["DT120"]


# -- what is done when a module is imported


FLAG = 'os.environ["FLAG"]'


def imported_flag(module: str, use: str = "if FLAG:\n        pass") -> str:
    head = "import os\nfrom dt_testkit import allow_nondeterminism\n"
    return f"{head}{module}\ndef flow(ctx, order):\n    {use}\n    yield ctx.create_timer(order)\n"


def test_the_route_to_what_is_read_when_a_module_is_imported_is_told(lint):
    (found,) = lint(imported_flag(f"FLAG = {FLAG}")).findings
    assert (found.line, found.code, found.route) == (3, "DT106", ("flow.py:5 flow", "flow.py:3 <module>"))
    made = f"class Settings:\n    flag = {FLAG}"
    (found,) = lint(imported_flag(made, "if Settings.flag: ...")).findings
    assert (found.line, found.route) == (4, ("flow.py:6 flow", "flow.py:4 Settings"))


@pytest.mark.parametrize(
    ("import_", "use"),
    [
        ("from settings import FLAG", "if FLAG: ..."),
        ("from again import FLAG as OTHER", "if OTHER: ..."),
        ("from settings import *", "if FLAG: ..."),
        ("import settings", "if settings.FLAG: ..."),
        ("", "from settings import FLAG"),
    ],
)
def test_what_another_module_reads_when_it_is_imported_is_found_in_it(import_, use, lint):
    files = {"settings.py": f"import os\nFLAG = {FLAG}\n", "again.py": "from settings import FLAG\n"}
    flow = f"{import_}\ndef flow(ctx, order):\n    {use}\n    yield ctx.create_timer(order)\n"
    (found,) = lint({**files, "flow.py": flow}).findings
    assert (found.path, found.line, found.code) == ("settings.py", 2, "DT106")
    assert found.route == ("flow.py:3 flow", "settings.py:2 <module>")


ALLOW = 'with allow_nondeterminism("set by the deployment"):'


@pytest.mark.parametrize(
    ("module", "use"),
    [
        (f"{ALLOW}\n    FLAG = {FLAG}", "if FLAG: ..."),
        (f"{ALLOW}\n    if True:\n        FLAG = {FLAG}", "if FLAG: ..."),
        (f"if True:\n    {ALLOW}\n        FLAG = {FLAG}", "if FLAG: ..."),
        (f"def read():\n    return {FLAG}\n{ALLOW}\n    FLAG = read()", "if FLAG: ..."),
        (f"class Settings:\n    {ALLOW}\n        flag = {FLAG}", "if Settings.flag: ..."),
        (f"FLAG = {FLAG}", f"{ALLOW}\n        flag = FLAG"),
        (f"FLAG = {FLAG}  # dt: ignore[DT106] set by the deployment", "if FLAG: ..."),
        (f"FLAG = (\n    {FLAG}\n)  # dt: ignore[DT106] set by the deployment", "if FLAG: ..."),
    ],
)
def test_what_is_read_when_a_module_is_imported_can_be_allowed_and_ignored(module, use, lint):
    assert lint(imported_flag(module, use)).findings == []


def test_a_block_allows_what_is_read_in_it_when_a_module_is_imported_and_nothing_else(lint):
    module = f"{ALLOW}\n    OTHER = 1\nFLAG = {FLAG}"
    assert codes(lint(imported_flag(module))) == ["DT106"]
    module = f"with open(__file__):\n    FLAG = {FLAG}"
    assert codes(lint(imported_flag(module))) == ["DT106"]
    module = f"FLAG = {FLAG}"
    use = f"{ALLOW}\n        flag = FLAG\n    if FLAG: ..."
    assert codes(lint(imported_flag(module, use))) == ["DT106"]


def test_a_block_around_what_a_module_reads_wants_a_reason(lint):
    (found,) = lint(imported_flag(f"with allow_nondeterminism():\n    FLAG = {FLAG}")).findings
    assert (found.code, found.line) == ("DT902", 3)
    assert found.message.startswith("an `allow_nondeterminism` without a reason: ")
