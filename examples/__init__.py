"""The main job (``demo``), and an application after a release that nobody tested (``changed_workflows``)."""
