"""Less common clothes with nothing under them: star arguments, protocols, modules' pure functions, tables."""

import enum
import itertools
import json
import math
import os.path
import posixpath
import re
import string
import textwrap
import urllib.parse
from collections import defaultdict, deque
from copy import deepcopy
from datetime import timedelta
from decimal import Decimal
from functools import partial, reduce
from io import StringIO
from operator import attrgetter
from typing import NamedTuple

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, when_all

PATTERN = re.compile(r"\w+")
STEPS = ["a", "b"]


def act(ctx: ActivityContext, text: str) -> str:
    return text


def star_arguments(ctx: OrchestrationContext, text: str):
    options = {"input": text}
    policy = {"first_retry_interval": timedelta(seconds=1), "max_number_of_attempts": 2}
    return (yield ctx.call_activity(act, **options, retry_policy=RetryPolicy(**policy)))


def arguments_in_a_tuple(ctx: OrchestrationContext, text: str):
    call = (act,)
    return (yield ctx.call_activity(*call, input=text))


def method_in_a_name(ctx: OrchestrationContext, text: str):
    call = ctx.call_activity
    return (yield call(act, input=text))


def partial_of_the_context(ctx: OrchestrationContext, texts: list):
    start = partial(ctx.call_activity, act)
    return (yield when_all([start(input=text) for text in texts]))


def pure_path_functions(ctx: OrchestrationContext, text: str):
    # Joining and splitting names touches no disk.
    name = os.path.join("data", os.path.basename(text)) + posixpath.splitext(text)[1]
    return (yield ctx.call_activity(act, input=name))


def pure_url_functions(ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(act, input=urllib.parse.quote(text) + urllib.parse.urlencode({"q": text})))


def text_in_memory(ctx: OrchestrationContext, text: str):
    buffer = StringIO()
    buffer.write(text)
    return (yield ctx.call_activity(act, input=textwrap.dedent(buffer.getvalue())))


def patterns_and_numbers(ctx: OrchestrationContext, text: str):
    words = PATTERN.findall(text)
    size = math.ceil(len(words) / 2) + int(Decimal("1.5"))
    return (yield ctx.call_activity(act, input=string.capwords(words[0]) * size))


def local_collections(ctx: OrchestrationContext, texts: list):
    queue, groups = deque(texts), defaultdict(list)
    while queue:
        text = queue.popleft()
        groups[text[0]].append((yield ctx.call_activity(act, input=text)))
        queue.rotate(1)
    return json.loads(json.dumps(groups))


def deep_copy_of_a_constant(ctx: OrchestrationContext, text: str):
    steps = deepcopy(STEPS)
    steps.remove("a")
    steps += [text]
    return (yield ctx.call_activity(act, input=",".join(steps)))


def combinations(ctx: OrchestrationContext, texts: list):
    for left, right in itertools.combinations(texts, 2):
        yield ctx.call_activity(act, input=left + right)
    for number, text in zip(itertools.count(1), texts):
        yield ctx.call_activity(act, input=f"{number}{text}")


def folds(ctx: OrchestrationContext, texts: list):
    joined = reduce(lambda left, right: f"{left}-{right}", texts, "")
    longest = max(texts, key=len, default="")
    return (yield ctx.call_activity(act, input=joined + longest))


class Kind(enum.Enum):
    FAST = "fast"
    SLOW = "slow"

    @classmethod
    def of(cls, text: str) -> "Kind":
        return cls.FAST if text.startswith("f") else cls.SLOW


def an_enum(ctx: OrchestrationContext, text: str):
    kinds = [kind.value for kind in Kind]
    return (yield ctx.call_activity(act, input=Kind.of(text).value + ",".join(kinds)))


class Line(NamedTuple):
    item: str
    count: int


class Basket:
    def __init__(self, items: list) -> None:
        self.lines = [Line(item, 1) for item in items]

    def __iter__(self):
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def remove(self, item: str) -> None:
        self.lines = [line for line in self.lines if line.item != item]


def protocols_of_ones_own(ctx: OrchestrationContext, items: list):
    basket = Basket(items)
    basket.remove("a")
    for line in sorted(basket, key=attrgetter("item")):
        yield ctx.call_activity(act, input=f"{line.item} of {len(basket)}")


def walrus_and_match(ctx: OrchestrationContext, text: str):
    if (found := (yield ctx.call_activity(act, input=text))) == text:
        match found:
            case "x":
                return (yield ctx.call_activity(act, input="matched"))
            case _:
                return found
    return None


def generator_of_values(texts: list):
    for text in texts:
        yield text.upper()


def goes_through_a_generator(ctx: OrchestrationContext, texts: list):
    for text in generator_of_values(texts):
        yield ctx.call_activity(act, input=text)
    return list(generator_of_values(texts))


def recursion(ctx: OrchestrationContext, depth: int):
    if depth == 0:
        return "bottom"
    yield ctx.call_activity(act, input=str(depth))
    return (yield from recursion(ctx, depth - 1))


def itself_as_a_child(ctx: OrchestrationContext, depth: int):
    if depth:
        return (yield ctx.call_sub_orchestrator(itself_as_a_child, input=depth - 1))
    return "bottom"


def id_of_a_child(ctx: OrchestrationContext, depth: int):
    instance_id = f"{ctx.instance_id}:{ctx.new_uuid()}"
    return (yield ctx.call_sub_orchestrator("recursion", input=depth, instance_id=instance_id))


def dictionary_methods(ctx: OrchestrationContext, order: dict):
    order.setdefault("notes", []).append("new")
    order.pop("card", None)
    merged = order | {"done": True}
    yield when_all([ctx.call_activity(act, input=key) for key in sorted(merged)])
    order.clear()
    return merged


RUN = [
    (star_arguments, "x"),
    (arguments_in_a_tuple, "x"),
    (method_in_a_name, "x"),
    (partial_of_the_context, ["x", "y"]),
    (pure_path_functions, "a/x.txt"),
    (pure_url_functions, "a b"),
    (text_in_memory, "x"),
    (patterns_and_numbers, "some words here"),
    (local_collections, ["ab", "ac", "b"]),
    (deep_copy_of_a_constant, "x"),
    (combinations, ["x", "y", "z"]),
    (folds, ["x", "yy"]),
    (an_enum, "fine"),
    (protocols_of_ones_own, ["b", "a"]),
    (walrus_and_match, "x"),
    (goes_through_a_generator, ["x"]),
    (recursion, 2),
    (itself_as_a_child, 2),
    (id_of_a_child, 1),
    (dictionary_methods, {"item": "desk", "card": "1"}),
]


def register(worker):
    worker.add_activity(act)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
