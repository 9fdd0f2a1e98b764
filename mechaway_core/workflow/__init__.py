"""A workflow: the document as people write it, its checks, and the plan that runs.

`document` brings what was sent into canonical form, `check` finds everything that is wrong with it (and is the only part that
needs pydantic), `plan` compiles a document that passed into what the engine walks.
"""

from mechaway_core.workflow.document import canonical
from mechaway_core.workflow.plan import Plan, Retry, Route, Start, Step, compile_plan

__all__ = ["Plan", "Retry", "Route", "Start", "Step", "canonical", "compile_plan"]
