"""Let a law that fails show the values it compared."""

import pytest

pytest.register_assert_rewrite("laws")
