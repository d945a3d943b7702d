import uuid

try:
    from ulid import ULID
except ImportError:
    ULID = None


def make_key(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4()}"  #! DT103


def from_name(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
