"""Imports every module of operations, so that the registry is whole."""

from gateway.operations import (
    audit,
    commands,
    companies,
    company_tree,
    credits,
    devices,
    diagnosis,
    history,
    joining,
    people,
    registering,
    series,
    service,
    session_access,
    sessions,
    targets,
)

MODULES = (
    companies,
    company_tree,
    credits,
    registering,
    devices,
    service,
    history,
    series,
    commands,
    joining,
    people,
    sessions,
    session_access,
    diagnosis,
    targets,
    audit,
)
