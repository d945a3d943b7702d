"""The rules: what each of them looks at while `interpreter` goes through an orchestrator."""
