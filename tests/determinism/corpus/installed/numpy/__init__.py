"""As far as the corpus needs it."""

from . import random

__all__ = ["random"]
