"""Sets that are asked, counted or sorted, and dictionaries in the order in which they were filled."""

from collections import Counter, OrderedDict
from types import MappingProxyType

from durabletask.task import ActivityContext, OrchestrationContext, when_all

VIPS = frozenset({"ana", "kim"})
BLOCKED = {"zoe"}
PRICES = {"desk": 200, "chair": 80}
REGIONS = ("eu", "us")
LIMITS = MappingProxyType({"eu": 2, "us": 3})


def notify(ctx: ActivityContext, name: str) -> str:
    seen = set()
    seen.add(name)
    return "".join(other for other in seen)


def sorted_set(ctx: OrchestrationContext, names: list):
    for name in sorted(set(names)):
        yield ctx.call_activity(notify, input=name)


def sorted_comprehension(ctx: OrchestrationContext, names: list):
    unique = {name.lower() for name in names}
    return (yield when_all([ctx.call_activity(notify, input=name) for name in sorted(unique, reverse=True)]))


def membership(ctx: OrchestrationContext, names: list):
    for name in names:
        if name in VIPS and name not in BLOCKED:
            yield ctx.call_activity(notify, input=name)


def length(ctx: OrchestrationContext, names: list):
    yield ctx.call_activity(notify, input=str(len(set(names))))
    return len(names) != len(set(names))


def extremes(ctx: OrchestrationContext, numbers: list):
    unique = set(numbers)
    yield ctx.call_activity(notify, input=f"{min(unique)} {max(unique)} {sum(unique)}")


def any_and_all(ctx: OrchestrationContext, names: list):
    known = all(name in VIPS for name in set(names))
    yield ctx.call_activity(notify, input=str(known))


def unique_in_order(ctx: OrchestrationContext, names: list):
    for name in dict.fromkeys(names):
        yield ctx.call_activity(notify, input=name)


def dictionary(ctx: OrchestrationContext, _):
    for item, price in PRICES.items():
        yield ctx.call_activity(notify, input=f"{item} {price}")


def dictionary_of_the_input(ctx: OrchestrationContext, basket: dict):
    return (yield when_all([ctx.call_activity(notify, input=item) for item in basket]))


def frozen_constants(ctx: OrchestrationContext, _):
    for region in REGIONS:
        for _number in range(LIMITS[region]):
            yield ctx.call_activity(notify, input=region)


def set_to_remember(ctx: OrchestrationContext, names: list):
    seen = set()
    for name in names:
        if name in seen:
            continue
        seen.add(name)
        yield ctx.call_activity(notify, input=name)
    return len(seen)


def subset(ctx: OrchestrationContext, names: list):
    if set(names) <= VIPS:
        return "all"
    if set(names).isdisjoint(VIPS):
        return "none"
    yield ctx.call_activity(notify, input="some")
    return sorted(VIPS & set(names))


def counted(ctx: OrchestrationContext, names: list):
    counts = Counter(names)
    for name, number in counts.most_common():
        yield ctx.call_activity(notify, input=f"{name} {number}")


def ordered_dictionary(ctx: OrchestrationContext, names: list):
    groups: OrderedDict = OrderedDict()
    for name in names:
        groups.setdefault(name[0], []).append(name)
    for letter, group in groups.items():
        yield ctx.call_activity(notify, input=letter + ",".join(group))


def new_set_of_a_set(ctx: OrchestrationContext, names: list):
    # A set made of a set has no order to lose.
    short = {name for name in set(names) if len(name) < 4}
    yield ctx.call_activity(notify, input=str(len(short)))
    return sorted(short)


RUN = [
    (sorted_set, ["raj", "ana", "raj"]),
    (sorted_comprehension, ["Raj", "ana"]),
    (membership, ["raj", "ana", "zoe"]),
    (length, ["raj", "ana", "raj"]),
    (extremes, [3, 1, 3]),
    (any_and_all, ["raj", "ana"]),
    (unique_in_order, ["raj", "ana", "raj"]),
    (dictionary, None),
    (dictionary_of_the_input, {"desk": 1, "chair": 4}),
    (frozen_constants, None),
    (set_to_remember, ["raj", "ana", "raj"]),
    (subset, ["raj", "ana"]),
    (counted, ["raj", "ana", "raj"]),
    (ordered_dictionary, ["raj", "ana", "rob"]),
    (new_set_of_a_set, ["raj", "anastasia"]),
]


def register(worker):
    worker.add_activity(notify)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
