import os

DEBUG = os.environ.get("TIDY_DEBUG") == "1"
