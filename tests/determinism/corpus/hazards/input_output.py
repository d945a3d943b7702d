"""Talking to the world from an orchestrator."""

import http.client
import pathlib
import shutil
import smtplib
import socket
import sqlite3
import subprocess
import urllib.request
from pathlib import Path
from urllib.request import urlopen

from durabletask.task import ActivityContext, OrchestrationContext

try:
    import requests
except ImportError:
    requests = None
try:
    import httpx
except ImportError:
    httpx = None
try:
    import boto3
except ImportError:
    boto3 = None
try:
    from azure.storage.blob import BlobServiceClient
except ImportError:
    BlobServiceClient = None
try:
    import psycopg
    import redis
except ImportError:
    psycopg = redis = None


def publish(ctx: ActivityContext, text: str) -> int:
    return len(text)


def http_get(ctx: OrchestrationContext, url: str):
    rate = requests.get(url, timeout=5).json()  #! DT105
    yield ctx.call_activity(publish, input=str(rate))


def http_session(ctx: OrchestrationContext, url: str):
    with requests.Session() as session:  #? DT105
        body = session.post(url, json={})  #! DT105
    yield ctx.call_activity(publish, input=body.text)


def httpx_client(ctx: OrchestrationContext, url: str):
    yield ctx.call_activity(publish, input=httpx.get(url).text)  #! DT105


def standard_library_client(ctx: OrchestrationContext, url: str):
    page = urllib.request.urlopen(url).read()  #! DT105
    yield ctx.call_activity(publish, input=page.decode())


def imported_urlopen(ctx: OrchestrationContext, url: str):
    with urlopen(url) as answer:  #! DT105
        text = str(answer.status)
    yield ctx.call_activity(publish, input=text)


def raw_connection(ctx: OrchestrationContext, host: str):
    connection = http.client.HTTPSConnection(host)  #! DT105
    yield ctx.call_activity(publish, input=str(connection))


def raw_socket(ctx: OrchestrationContext, host: str):
    with socket.create_connection((host, 1)) as channel:  #! DT105
        name = str(channel)
    yield ctx.call_activity(publish, input=name)


def reads_a_file(ctx: OrchestrationContext, path: str):
    with open(path) as file:  #! DT105
        text = str(file)
    yield ctx.call_activity(publish, input=text)


def reads_a_path(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(publish, input=Path("data", name).read_text())  #! DT105


def writes_a_path(ctx: OrchestrationContext, name: str):
    target = pathlib.Path("out") / name
    size = yield ctx.call_activity(publish, input=name)
    target.write_text(str(size))  #! DT105


def copies(ctx: OrchestrationContext, path: str):
    shutil.copyfile(path, path + ".bak")  #! DT105
    yield ctx.call_activity(publish, input=path)


def queries(ctx: OrchestrationContext, customer: int):
    database = sqlite3.connect("shop.db")  #! DT105
    yield ctx.call_activity(publish, input=str(database))


def queries_postgresql(ctx: OrchestrationContext, customer: int):
    with psycopg.connect("dbname=shop") as database:  #! DT105
        name = str(database)
    yield ctx.call_activity(publish, input=name)


def asks_redis(ctx: OrchestrationContext, key: str):
    yield ctx.call_activity(publish, input=str(redis.Redis()))  #! DT105


def runs_a_program(ctx: OrchestrationContext, path: str):
    done = subprocess.run(["git", "log", path], capture_output=True)  #! DT105
    yield ctx.call_activity(publish, input=str(done.returncode))


def sends_mail(ctx: OrchestrationContext, text: str):
    server = smtplib.SMTP("127.0.0.1", 1)  #! DT105
    yield ctx.call_activity(publish, input=str(server))


def cloud_sdk(ctx: OrchestrationContext, bucket: str):
    s3 = boto3.client("s3")  #! DT105
    yield ctx.call_activity(publish, input=str(s3))


def azure_storage(ctx: OrchestrationContext, connection: str):
    blobs = BlobServiceClient.from_connection_string(connection)  #! DT105
    yield ctx.call_activity(publish, input=blobs.account_name)


def asks_the_user(ctx: OrchestrationContext, _):
    answer = input("Go on? ")  #! DT105|DT104
    yield ctx.call_activity(publish, input=answer)


NOBODY_LISTENS = "http://127.0.0.1:1/"

RUN = [
    (http_get, NOBODY_LISTENS),
    (http_session, NOBODY_LISTENS),
    (httpx_client, NOBODY_LISTENS),
    (standard_library_client, NOBODY_LISTENS),
    (imported_urlopen, NOBODY_LISTENS),
    (raw_connection, "127.0.0.1"),
    (raw_socket, "127.0.0.1"),
    (reads_a_file, "order.txt"),
    (reads_a_path, "order.txt"),
    (writes_a_path, "order.txt"),
    (copies, "order.txt"),
    (queries, 7),
    (queries_postgresql, 7),
    (asks_redis, "kim"),
    (runs_a_program, "order.txt"),
    (sends_mail, "hello"),
    (cloud_sdk, "orders"),
    (azure_storage, "UseDevelopmentStorage=true"),
    (asks_the_user, None),
]


def register(worker):
    worker.add_activity(publish)
    for orchestrator in [
        http_get,
        http_session,
        httpx_client,
        standard_library_client,
        imported_urlopen,
        raw_connection,
        raw_socket,
        reads_a_file,
        reads_a_path,
        writes_a_path,
        copies,
        queries,
        queries_postgresql,
        asks_redis,
        runs_a_program,
        sends_mail,
        cloud_sdk,
        azure_storage,
        asks_the_user,
    ]:
        worker.add_orchestrator(orchestrator)
