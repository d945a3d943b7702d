from shop.flows import orders as _orders
from shop.flows.orders import by_wildcard, reexported
from shop.flows.returns import ReturnFlow, refund_flow

_return_flow = ReturnFlow()

ORCHESTRATORS = (
    reexported,
    by_wildcard,
    _orders.by_module,
    _orders.through_a_package,
    _orders.a_service,
    _orders.a_setting,
    _orders.a_flag,
    _orders.nested,
    _orders.imported_when_called,
    _orders.clean,
    refund_flow,
    _return_flow.return_flow,
)
