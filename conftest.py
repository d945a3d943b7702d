import freezegun

pytest_plugins = ["pytester"]

# A worker that runs beside a test would wait for a time that was frozen: then it never stops.
freezegun.configure(extend_ignore_list=["asyncio", "grpc"])
