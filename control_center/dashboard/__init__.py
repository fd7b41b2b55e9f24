"""Pages for people: what runs, what went wrong, and what can be done about it.

A screen is a module with a router and a template: it reads rows, and gives them to `page`. Pages come whole from the server
and work without a script; with one, their regions follow what happens. Drawing (`draw/`) is pure: data in, SVG out.
"""

from __future__ import annotations

from control_center.dashboard import (
    act_on_execution,
    act_on_many,
    assets,
    compare_executions,
    export_executions,
    hold_calls,
    list_executions,
    list_workflows,
    show_analytics,
    show_audit,
    show_costs,
    show_execution,
    show_inbox,
    show_job,
    show_queues,
    show_tools,
    show_workflow,
    sign_in,
    start_run,
)

SCREENS = (
    list_executions,
    export_executions,
    act_on_many,
    show_job,
    show_audit,
    show_execution,
    act_on_execution,
    compare_executions,
    list_workflows,
    start_run,
    show_workflow,
    hold_calls,
    show_tools,
    show_inbox,
    show_analytics,
    show_costs,
    show_queues,
    sign_in,
    assets,
)
