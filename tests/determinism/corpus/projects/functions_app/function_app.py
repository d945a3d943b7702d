"""Azure Functions: orchestrators are made by a decorator, under a keyword that names the context.

Not importable without the packages of Azure Functions.
"""

import os
import uuid
from datetime import datetime

import azure.durable_functions as df
import azure.functions as func
from blueprint import bp

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
app.register_functions(bp)


@app.route(route="start")
@app.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client) -> func.HttpResponse:
    name = req.params.get("name", os.environ.get("NAME", f"{datetime.now()}-{uuid.uuid4()}"))
    instance_id = await client.start_new("hello", None, name)
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def hello(context: df.DurableOrchestrationContext):
    key = uuid.uuid4()  #! DT103
    return (yield context.call_activity("greet", str(key)))


@app.orchestration_trigger(context_name="context")
def unannotated(context):
    region = os.environ["REGION"]  #! DT106
    return (yield context.call_activity("greet", region))


@app.activity_trigger(input_name="name")
def greet(name: str) -> str:
    return f"Hello {name}, it is {datetime.now()}"
