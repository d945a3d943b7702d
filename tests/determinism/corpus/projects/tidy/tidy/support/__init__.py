from .keys import key_for, random_key
from .times import add_days, stamp_now

__all__ = ["add_days", "key_for", "random_key", "stamp_now"]
