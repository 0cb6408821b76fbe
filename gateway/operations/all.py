"""Imports every module of operations, so that the registry is whole."""

from gateway.operations import (
    commands,
    companies,
    company_tree,
    credits,
    devices,
    history,
    joining,
    people,
    registering,
    service,
)

MODULES = (
    companies,
    company_tree,
    credits,
    registering,
    devices,
    service,
    history,
    commands,
    joining,
    people,
)
