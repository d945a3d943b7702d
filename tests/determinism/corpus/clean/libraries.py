"""Libraries that know clocks, files, chance and memory, in what they do that needs none of them."""

import base64
import configparser
import csv
import difflib
import hashlib
import heapq
import hmac
import html
import inspect
import io
import ipaddress
import json
import os
import pickle
import pprint
import random
import secrets
import shlex
import statistics
import struct
import subprocess
import traceback
import typing
import urllib.parse
import urllib.request
import uuid
import xml.etree.ElementTree as tree
import zlib
from collections import ChainMap, Counter, OrderedDict
from contextlib import ExitStack, closing, nullcontext
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cache, cached_property, lru_cache, singledispatch, total_ordering
from pathlib import PurePosixPath

from durabletask.task import ActivityContext, OrchestrationContext, TaskFailedError


def act(ctx: ActivityContext, text: str) -> str:
    if text == "fails":
        raise ValueError(text)
    return text


@total_ordering
@dataclass(frozen=True)
class Line:
    item: str
    quantity: int = 1
    tags: tuple = field(default_factory=tuple)

    def __lt__(self, other: "Line") -> bool:
        return self.item < other.item

    @cached_property
    def label(self) -> str:
        return f"{self.quantity} {self.item}"


def copies(ctx: OrchestrationContext, names: list):
    # Copying and printing go by the addresses of objects, and give none away.
    nested = {"names": names, "again": [names, names]}
    text = pprint.pformat([deepcopy(nested), copy(names), pickle.loads(pickle.dumps(nested))])
    return (yield ctx.call_activity(act, input=text))


def digests(ctx: OrchestrationContext, text: str):
    # Unlike hash() these are the same everywhere.
    key = hmac.new(b"key", text.encode(), "sha256").hexdigest()
    same = secrets.compare_digest(key, hashlib.sha256(text.encode()).hexdigest())
    return (yield ctx.call_activity(act, input=f"{key} {same} {zlib.crc32(text.encode())} {uuid.uuid5(uuid.NAMESPACE_DNS, text)}"))


def packs(ctx: OrchestrationContext, text: str):
    data = struct.pack(">I", len(text)) + zlib.compress(text.encode())
    return (yield ctx.call_activity(act, input=base64.b64encode(data).decode()))


def seeded(ctx: OrchestrationContext, names: list):
    chance = random.Random(ctx.instance_id)
    chance.shuffle(names)
    return (yield ctx.call_activity(act, input=f"{names} {chance.choice(names)} {chance.randbytes(4).hex()} {chance.gauss(0, 1)}"))


def money(ctx: OrchestrationContext, price: str):
    with localcontext() as context:
        context.prec = 12
        net = (Decimal(price) / Decimal("1.19")).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    return (yield ctx.call_activity(act, input=f"{net:,} {float(net):.1f}"))


def tables(ctx: OrchestrationContext, names: list):
    file = io.StringIO()
    with closing(file):
        csv.writer(file).writerows([name, len(name)] for name in names)
        rows = list(csv.reader(io.StringIO(file.getvalue())))
    settings = configparser.ConfigParser()
    settings.read_string("[shop]\nregion = eu\n")
    return (yield ctx.call_activity(act, input=f"{rows} {settings['shop']['region']}"))


def documents(ctx: OrchestrationContext, text: str):
    root = tree.fromstring(f"<order><item>{html.escape(text)}</item></order>")
    return (yield ctx.call_activity(act, input=f"{root.find('item').text} {shlex.split('a b')}"))


def addresses(ctx: OrchestrationContext, text: str):
    network = ipaddress.ip_network("10.0.0.0/30")
    path = PurePosixPath("/data") / os.path.normpath(f"{text}/../{text}")
    return (yield ctx.call_activity(act, input=f"{[str(host) for host in network]} {path.suffix} {os.fspath(path)}"))


def links(ctx: OrchestrationContext, text: str):
    # Next to what opens them, which is imported too.
    link = urllib.parse.urljoin("https://example.test/a/", urllib.parse.quote(f"{text} & chair"))
    request = urllib.request.Request(link, data=urllib.parse.urlencode({"q": text}).encode())
    return (yield ctx.call_activity(act, input=f"{request.full_url} {urllib.parse.urlsplit(link).path} {request.data}"))


def outcomes(ctx: OrchestrationContext, text: str):
    # As an activity might have reported it; nothing is started.
    done = subprocess.CompletedProcess(["pack", text], returncode=0, stdout=text)
    done.check_returncode()
    return (yield ctx.call_activity(act, input=f"{done} {subprocess.list2cmdline(done.args)} {subprocess.PIPE}"))


def notes(ctx: OrchestrationContext, names: list):
    text = json.dumps({"names": names, "of": {"a": [1, 2.5, None]}}, indent=2, sort_keys=True)
    again = deepcopy(json.loads(text))
    again["names"].append("zoe")
    return (yield ctx.call_activity(act, input=f"{text} {json.dumps(again, indent=4)} {json.loads(text) == again}"))


def numbers(ctx: OrchestrationContext, names: list):
    lengths = [len(name) for name in names]
    heapq.heapify(lengths)
    text = f"{statistics.mean(lengths)} {statistics.median(lengths)} {heapq.nsmallest(2, lengths)}"
    return (yield ctx.call_activity(act, input=text))


def counts(ctx: OrchestrationContext, names: list):
    common = Counter("".join(names)).most_common(3)
    merged = ChainMap(OrderedDict.fromkeys(names), {"z": 1})
    close = difflib.get_close_matches("an", names)
    return (yield ctx.call_activity(act, input=f"{common} {list(merged)} {close}"))


@cache
def squared(number: int) -> int:
    return number * number


@lru_cache(maxsize=2)
def titled(name: str) -> str:
    return name.title()


@singledispatch
def described(value) -> str:
    return str(value)


@described.register
def _(value: int) -> str:
    return f"number {value}"


def remembers_what_is_always_so(ctx: OrchestrationContext, names: list):
    return (yield ctx.call_activity(act, input=f"{squared(len(names))} {[titled(name) for name in names]} {described(7)}"))


def data(ctx: OrchestrationContext, item: str):
    lines = sorted([Line(item, 2), replace(Line(item), item="chair")])
    chosen = {line: line.label for line in lines}
    hints = sorted(typing.get_type_hints(Line))
    return (yield ctx.call_activity(act, input=f"{[asdict(line) for line in chosen]} {hints} {inspect.signature(Line)}"))


def sets_in_order(ctx: OrchestrationContext, names: list):
    unique = {*names, "zoe"}
    text = f"{sorted(unique)} {len(unique)} {max(unique)} {'zoe' in unique} {unique == set(names)} {sorted(unique - {'ana'})}"
    return (yield ctx.call_activity(act, input=text))


def failures(ctx: OrchestrationContext, text: str):
    try:
        yield ctx.call_activity(act, input="fails")
    except TaskFailedError as error:
        text = "".join(traceback.format_exception_only(type(error), error))
    return (yield ctx.call_activity(act, input=text))


def moments(ctx: OrchestrationContext, text: str):
    day = date.fromisoformat(text)
    utc = ctx.current_utc_datetime.replace(tzinfo=timezone.utc)
    weeks = [day + timedelta(weeks=number) for number in range(3)]
    text = f"{utc.timestamp():.0f} {weeks[-1]:%d.%m.%Y} {datetime(2026, 1, 1) - datetime.min} {day.isocalendar().week}"
    return (yield ctx.call_activity(act, input=text))


def imports_when_it_runs(ctx: OrchestrationContext, text: str):
    # An import reads files, once, and the same ones.
    import colorsys
    from fractions import Fraction

    return (yield ctx.call_activity(act, input=f"{colorsys.rgb_to_hsv(0, 0, 1)} {Fraction('1/3') + 1}"))


def cleans_up(ctx: OrchestrationContext, text: str):
    done = []
    with ExitStack() as stack:
        stack.callback(done.append, text)
        stack.enter_context(nullcontext())
        yield ctx.create_timer(timedelta(hours=1))
    return (yield ctx.call_activity(act, input=str(done)))


NAMES = ["ana", "kim", "raj", "eva"]

RUN = [
    (copies, NAMES),
    (digests, "desk"),
    (packs, "desk"),
    (seeded, NAMES),
    (money, "1234.50"),
    (tables, NAMES),
    (documents, "desk & chair"),
    (addresses, "desk.txt"),
    (links, "desk"),
    (outcomes, "desk"),
    (notes, NAMES),
    (numbers, NAMES),
    (counts, NAMES),
    (remembers_what_is_always_so, NAMES),
    (data, "desk"),
    (sets_in_order, NAMES),
    (failures, "desk"),
    (moments, "2026-02-03"),
    (imports_when_it_runs, "desk"),
    (cleans_up, "desk"),
]


def register(worker):
    worker.add_activity(act)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
