"""Kubernetes quantities, such as 500m or 2Gi."""

from decimal import Decimal


def amount(quantity: str | float) -> Decimal:
    """A quantity as a number: 0.5 for 500m, 2147483648 for 2Gi. Exact.

    Raises:
        ValueError: it is not a quantity.
    """
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity))  # type: ignore[no-untyped-call]
