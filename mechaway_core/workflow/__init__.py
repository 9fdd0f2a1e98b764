"""A workflow: the document as people write it, its checks, and the plan that runs.

`document` brings what was sent into canonical form, `check` finds everything that is wrong with it (and is the only part that
needs pydantic), `plan` compiles a document that passed into what the engine walks, `rules` is what its settings say about its runs.
"""

from mechaway_core.workflow.document import canonical
from mechaway_core.workflow.plan import Plan, Retry, Route, Start, Step, compile_plan
from mechaway_core.workflow.rules import HiddenPath, Rules, rules_of

__all__ = ["HiddenPath", "Plan", "Retry", "Route", "Rules", "Start", "Step", "canonical", "compile_plan", "rules_of"]
