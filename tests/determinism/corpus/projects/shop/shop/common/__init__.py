from .clocks import *
from .clocks import today_text as day
from .ids import make_key

__all__ = ["day", "make_key", "now_text"]
