import platform


def label(order: str) -> str:
    return f"{order}@{platform.node()}"  #! DT106
